"""Who connects to Mosquitto, read from its log; who fails or has too much of it is kept out."""
