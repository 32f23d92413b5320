"""What control can be asked by users and administrators, and of the history; and the broker."""
