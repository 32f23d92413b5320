"""``results``, ``timeline``: outcomes as tables, pictures, and along the time; of new ones, too."""
