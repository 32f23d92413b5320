"""Mosquitto for icebus: run it, know who may do what there, bridge it.

``icebus up`` runs one embedded, ``icebus-broker`` one that stands by itself. What speaks on it is
:mod:`icebus.bus`. A program: nothing here is public.
"""
