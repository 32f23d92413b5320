"""What all programs share: their logs and options, private files, what is installed."""
