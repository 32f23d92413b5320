"""``circuit``, ``simulate``: circuits without a farm, built from sources and simulated."""
