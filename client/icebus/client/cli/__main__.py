"""``python -m icebus.client.cli``."""

from icebus.client.cli import main

main()
