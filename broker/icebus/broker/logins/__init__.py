"""Who connects to Mosquitto, read from its log; whoever fails too often is shut out for a while."""
