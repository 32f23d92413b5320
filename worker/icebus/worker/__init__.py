"""The worker: owns the boards on USB, gives each a state, and lets clients call it."""
