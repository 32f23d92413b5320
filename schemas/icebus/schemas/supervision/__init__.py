"""What a program tells whoever minds it: its health, by command or HTTP, and systemd."""
