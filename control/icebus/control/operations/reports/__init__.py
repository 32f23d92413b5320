"""What workers report of devices: recorded, held against each other, published anew."""
