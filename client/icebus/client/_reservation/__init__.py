"""A reservation in the hands of a client."""
