"""What control sees: workers, clients, the clock, and what the broker retains. In memory."""
