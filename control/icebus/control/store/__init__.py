"""What control stores: the database and its tables, the lease, the outbox, the history."""
