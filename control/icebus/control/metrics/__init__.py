"""What control tells Prometheus of the farm and of requests, where that is wanted."""
