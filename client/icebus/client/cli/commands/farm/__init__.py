"""``devices``, ``workers``, ``kinds``, ``top``, ``watch``, ``history``, ``logs``: how a farm is."""
