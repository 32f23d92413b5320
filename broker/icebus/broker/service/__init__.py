"""The broker's own service: what Mosquitto can't do itself, done by a client of it."""
