"""How a farm is, as the broker retains it: all of it, what one may ask for, what is offered."""
