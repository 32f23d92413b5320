"""A reservation in the hands of a client: what it holds, whether it lives, what happens to it.

`reservation` is what users hold; a kind that measures builds on it, in `icebus.client._evaluating`.
"""
