"""The commands of ``icebus``, one module each."""
