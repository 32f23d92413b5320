"""``reserve``, ``run``, ``transfer``, ``reboot``, ``call``: boards that one wants or holds."""
