"""Clients of the kinds that icebus ships: a name, a model of results, and a handler.

Packages with kinds of their own need no place here: see :class:`icebus.client.MeasuringClient`.
"""
