"""``icebus``: the command line of users."""

from __future__ import annotations

import os
import signal
import sys

COMPLETING = "_ICEBUS_COMPLETE"
"""Variable by which a shell asks for completions."""


def main() -> None:
    """Run the command line, and exit with its code."""
    if COMPLETING in os.environ:
        # A third of the time until something shows would go into loading what paints help.
        os.environ["TYPER_USE_RICH"] = "0"
    try:
        from icebus.client.cli.app import run
    except KeyboardInterrupt:  # it takes half a second, in which nothing has begun
        sys.stderr.write("icebus: interrupted\n")
        sys.exit(128 + signal.SIGINT)

    run()
