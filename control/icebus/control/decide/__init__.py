"""What control decides: pure functions and tables, no I/O and no clock."""
