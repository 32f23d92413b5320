"""``icebus-broker``: set up a broker, say who may use it, run it."""
