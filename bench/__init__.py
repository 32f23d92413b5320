"""Measures a farm on this machine: what it costs, and how it compares."""
