"""Counting state machines exactly: every change follows the clock.

Accumulators and dividers are counted by arithmetic. Everything else is simulated in blocks of clock
cycles, all cycles of a block at once, until its state comes back and with it the period.
"""
