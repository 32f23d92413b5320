"""``evaluate``, ``map``: bitstreams from files onto boards, and their outcomes as they come."""
