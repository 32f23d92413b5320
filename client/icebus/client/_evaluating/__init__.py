"""Evaluating bitstreams on the boards of a reservation, with exactly one outcome each, of any kind.

`boards` is what users hold and `run` one call of `evaluate` or `map`: the shell around `run_state`,
which decides, purely, with `each_board` or `any_board` saying which board evaluates what.
"""
