"""How far a run has come: for a function of the user's, or as a bar on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

from icebus.schemas.measuring import Failure, Outcome


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        done: outcomes so far.
        failed: how many of them are failures.
        total: outcomes there will be; None for a source without a length.
        seconds: since the run began.
    """

    done: int
    failed: int
    total: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Outcomes a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


ProgressOption = bool | Callable[[Progress], object]
"""Whether and how progress is shown: True for a bar, a function to be called, False for neither."""


AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)


def follow(
    outcomes: Generator[AnyOutcome],
    total: int | None,
    show: Literal[True] | Callable[[Progress], object],
) -> Generator[AnyOutcome]:
    """The same outcomes; before each is handed out, how far the run has come is shown."""
    if show is True:
        with bar("evaluating", total) as step:
            yield from _reporting(outcomes, total, step)
    else:
        yield from _reporting(outcomes, total, show)


def _reporting(
    outcomes: Generator[AnyOutcome], total: int | None, report: Callable[[Progress], object]
) -> Generator[AnyOutcome]:
    began = time.monotonic()
    failed = 0
    with closing(outcomes):
        for done, outcome in enumerate(outcomes, start=1):
            failed += isinstance(outcome, Failure)
            report(Progress(done, failed, total, time.monotonic() - began))
            yield outcome


@contextmanager
def bar(
    what: str, total: int | None, *, transient: bool = False
) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr; the function given moves it.

    Args:
        what: is under way.
        total: steps; None where that is not known.
        transient: whether it vanishes at the end.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failed]}", style="red"),
        Elapsed(),
    ]
    # Left to itself, rich would take stdout too, and send the data to the terminal.
    console = Console(file=sys.stderr)
    with Bar(*columns, console=console, transient=transient, redirect_stdout=False) as shown:
        task = shown.add_task(what, total=total, rate="", failed="")

        def update(progress: Progress) -> None:
            failed = f"{progress.failed} failed" if progress.failed else ""
            rate = f"{progress.rate:.3g}/s"
            shown.update(task, completed=progress.done, rate=rate, failed=failed)

        yield update
