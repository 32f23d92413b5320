"""A farm on this machine, for `icebus up`: broker, control, worker and rack as child processes."""
