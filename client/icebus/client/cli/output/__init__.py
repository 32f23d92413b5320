"""What commands print: tables, JSON and CSV on stdout; messages and progress on stderr."""
