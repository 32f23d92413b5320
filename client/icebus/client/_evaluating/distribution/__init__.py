"""Which board measures what, and what has come of it: pure, for each board and for any."""
