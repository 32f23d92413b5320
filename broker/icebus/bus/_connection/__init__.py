"""One connection to a broker: opened, kept, read quicker than paho does, and why there is none."""
