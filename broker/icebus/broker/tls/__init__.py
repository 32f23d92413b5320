"""Certificates of a broker and of its components, and the authority that vouches for them."""
