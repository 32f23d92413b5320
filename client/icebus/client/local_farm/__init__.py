"""A whole farm on this machine, as child processes."""
