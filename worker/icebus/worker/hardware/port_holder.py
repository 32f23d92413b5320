"""Who holds a serial port that is locked: for the reason that people are told."""

from __future__ import annotations

import os
from pathlib import Path

PROCESSES = Path("/proc")


def holder_of(port: Path) -> str:
    """The process that has ``port`` open, as in ``process 4242 (icebus-worker)``.

    Only processes of the same user can be looked at; and only Linux has them as files.
    """
    try:
        target = port.stat().st_rdev
    except OSError:
        return "another program"
    for folder in PROCESSES.glob("[0-9]*/fd"):
        try:
            found = any(each.stat().st_rdev == target for each in folder.iterdir())
        except OSError:
            continue  # somebody else's, or gone
        process = folder.parent
        if found and int(process.name) != os.getpid():
            return f"process {process.name} ({_name(process)})"
    return "another program"


def _name(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "unknown"
    # Of what an interpreter runs, its script: there everything of ours is one of its arguments.
    names = [Path(word.decode(errors="replace")).name for word in words[:3] if word[:1] != b"-"]
    ours = [name for name in names if name.startswith("icebus")]
    shown = (ours or names or ["unknown"])[0][:40]
    return "".join(char if char.isprintable() else "?" for char in shown)
