"""``icebus``: the command line of users."""

from __future__ import annotations


def main() -> None:
    """Run the command line, and exit with its code."""
    from icebus.client.cli.app import run

    run()
