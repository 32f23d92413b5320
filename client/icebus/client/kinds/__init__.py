"""Ready clients, one module for each kind."""
