"""Making bitstreams to try a farm with."""
