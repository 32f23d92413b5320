"""One device: a board as an actor, what it does next, and what it remembers."""
