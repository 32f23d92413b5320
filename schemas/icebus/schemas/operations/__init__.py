"""What control can be asked: by users, by administrators, and of the history."""
