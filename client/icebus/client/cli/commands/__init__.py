"""The commands of ``icebus``, by what they are about; beside each stands what it needs alone."""
