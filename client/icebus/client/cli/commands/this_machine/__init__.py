"""``up``, ``down``, ``status``, ``dashboard``, ``doctor``: what runs on this machine."""
