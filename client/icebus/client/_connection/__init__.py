"""The connection of one client, and what is said over it."""
