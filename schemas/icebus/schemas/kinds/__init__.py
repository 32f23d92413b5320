"""The kinds of reservable states: one module each, used by the state and by its clients."""
