"""Progress on stderr: moving when somebody watches, silent in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is waited for; the function given changes it."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} …") as status:
        yield lambda text: status.update(f"{text} …")


@contextmanager
def counting(what: str, total: int, *, streams: bool) -> Iterator[Callable[[], None]]:
    """A bar of ``total`` steps; the function given makes one.

    None where data ``streams`` to the same terminal: they would write over each other.
    """
    if not sys.stderr.isatty() or (streams and sys.stdout.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed()]
    console = Console(stderr=True)
    # Left to itself, rich would take stdout too, and send the data to the terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
