"""Draws what a terminal shows when commands are typed; script/pictures has it drawn.

python docs/site/terminal.py FILE COMMAND…
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 88
"""Columns: what the widest table that is drawn needs."""

TIMEOUT = 60.0
"""Seconds for a command."""

_FETCHED_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def draw(commands: Sequence[tuple[str, str]]) -> str:
    """Commands, each with its output, as SVG that needs nothing from elsewhere."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for command, output in commands:
        console.print(Text.assemble(("$ ", "green"), (command, "bold")))
        console.print(Text.from_ansi(output))
    svg = console.export_svg(title="icebus", unique_id="terminal")
    return _FETCHED_FONT.sub("", svg)


def run(command: str) -> str:
    """What a command shows, without its messages about progress.

    Raises:
        CalledProcessError: it failed.
    """
    return subprocess.run(
        shlex.split(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=TIMEOUT,
    ).stdout


if __name__ == "__main__":
    path, *typed = sys.argv[1:]
    Path(path).write_text(draw([(command, run(command)) for command in typed]))
