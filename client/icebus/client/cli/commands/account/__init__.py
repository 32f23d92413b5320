"""``login``, ``profile``, ``whoami``, ``passwd``: who one is, and to which farm one goes."""
