"""What a worker tells Prometheus of its boards and evaluations, where that is wanted."""
