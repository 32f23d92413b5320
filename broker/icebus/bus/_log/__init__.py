"""What a component logs, on the bus: which of it, and how it is sent without holding anybody up."""
