"""Options that several commands have, and what a shell completes of them."""
