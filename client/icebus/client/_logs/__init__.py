"""Log lines of a farm's components: the latest, and those that follow."""
