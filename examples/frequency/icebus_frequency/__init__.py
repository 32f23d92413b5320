"""Kind ``frequency``: how many times a second a circuit's output rises.

A kind of another package, with firmware of its own: what runs in the worker (``state``,
``firmware``), in the rack (``virtual``) and in the client (``client``).
"""
