"""What users and administrators ask for, each answered once."""
