"""What control keeps: the database, its tables, and one transaction on it."""
