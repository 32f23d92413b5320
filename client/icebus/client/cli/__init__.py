"""``icebus``: the command line of users."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

COMPLETING = "_ICEBUS_COMPLETE"
"""Variable by which a shell asks for completions."""


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        if COMPLETING in os.environ:
            _complete()
        from icebus.client.cli.app import run
    except KeyboardInterrupt:  # it takes half a second, in which nothing has begun
        sys.stderr.write("icebus: interrupted\n")
        sys.exit(128 + signal.SIGINT)

    run()


def _complete() -> None:
    """Answer a shell, and exit; what only typer can answer is left to it."""
    # A third of the time until something shows would go into loading what paints help.
    os.environ["TYPER_USE_RICH"] = "0"
    from icebus.client.cli.completing.asking import answer_shell

    # Without the file of commands it takes longer, and a prompt is no place to say why.
    with contextlib.suppress(OSError, ValueError):
        if (code := answer_shell(os.environ)) is not None:
            sys.stdout.flush()
            sys.exit(code)
