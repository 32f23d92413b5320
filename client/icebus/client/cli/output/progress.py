"""Progress on stderr: moving when somebody watches, silent in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from icebus.client.cli.durations import show_until
from icebus.client.cli.output.printing import QUIET, print_note

if TYPE_CHECKING:
    from icebus.client._evaluating.reporting.progress import ProgressOption
    from icebus.client._reservation.queue_place import Waiting
    from icebus.client._session import Session


@contextmanager
def waiting_message(what: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is waited for; the function given changes it."""
    if not _watched(streams=False):
        yield lambda _text: None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} …") as status:
        yield lambda text: status.update(f"{text} …")


@contextmanager
def queue_messages(client: Session, what: str, wait: float | None) -> Iterator[None]:
    """Shows where the reservation that is made meanwhile stands in the queue, if it may ``wait``.

    Where nobody watches, each change of place is a line.
    """
    with waiting_message(what) as update:
        if wait:

            @client.on("queued")
            def show(place: Waiting) -> None:
                text = queue_place_text(place)
                update(text)
                if not sys.stderr.isatty():
                    print_note(text)

        yield


def queue_place_text(place: Waiting) -> str:
    """A place in the queue, for people."""
    text = f"waiting at position {place.position}: {place.reason}"
    if place.estimate is None:
        return text
    return f"{text}; free in {show_until(place.estimate)} unless somebody extends"


@contextmanager
def run_progress(what: str, total: int, *, streams: bool) -> Iterator[ProgressOption]:
    """How a run of ``total`` evaluations shows its progress: a bar, or not at all.

    Not where data ``streams`` to the same terminal: they would write over each other.
    """
    if not _watched(streams=streams):
        yield False
        return
    from icebus.client._evaluating.reporting.progress import bar

    with bar(what, total, transient=True) as show:
        yield show


@contextmanager
def step_progress(what: str, total: int, *, streams: bool) -> Iterator[Callable[[], None]]:
    """A bar of ``total`` steps; the function given makes one.

    None where data ``streams`` to the same terminal: they would write over each other.
    """
    if not _watched(streams=streams):
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


def _watched(*, streams: bool) -> bool:
    if QUIET.get():
        return False
    return sys.stderr.isatty() and not (streams and sys.stdout.isatty())
