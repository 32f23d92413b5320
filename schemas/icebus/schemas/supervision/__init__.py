"""What a program tells whoever minds it: its health and metrics, and systemd."""
