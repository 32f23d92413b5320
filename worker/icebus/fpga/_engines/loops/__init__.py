"""Counting circuits without an evaluation order: loops of gates, mixed clocks.

What such a circuit does depends on delays. These are estimates here, so that a count is plausible
and the same each time, but never called exact.
"""
