"""What is done in a transaction: for users, for administrators, and because something fell due."""
