"""Ways to count the pulses of a circuit: one package for each kind of circuit."""
