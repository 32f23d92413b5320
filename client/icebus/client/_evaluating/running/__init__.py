"""One run of evaluations: what it decides, how it sends and waits, how it is left."""
