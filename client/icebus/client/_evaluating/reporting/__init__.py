"""How a run and an experiment stand, for whoever waits: a bar, a function, a web page."""
