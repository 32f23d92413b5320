"""``icebus``: the command line of users."""

from __future__ import annotations

import os

COMPLETING = "_ICEBUS_COMPLETE"
"""Variable by which a shell asks for completions."""


def main() -> None:
    """Run the command line, and exit with its code."""
    if COMPLETING in os.environ:
        # A third of the time until something shows would go into loading what paints help.
        os.environ["TYPER_USE_RICH"] = "0"
    from icebus.client.cli.app import run

    run()
