"""Which messages of users are taken, how many of each, and whose turn it is."""
