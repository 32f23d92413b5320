"""How far a run has come: for a function of the user's, or as a bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from icebus.client._evaluating.reporting.notebook_bar import NotebookBar, in_notebook
from icebus.schemas.measuring import Failure, Outcome
from icebus.schemas.programs.logs import printable
from icebus.schemas.wording import show_duration


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        done: outcomes so far.
        failed: how many of them are failures.
        total: outcomes there will be; None for a source without a length.
        seconds: since the run began.
        missing: what the run has to do without for now, such as the broker or some of its boards,
            for people; empty while all is there.
    """

    done: int
    failed: int
    total: int | None
    seconds: float
    missing: str = ""

    @property
    def rate(self) -> float:
        """Outcomes a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until it is done, if it goes on like this; None where that is not known."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate


ProgressOption = bool | Callable[[Progress], object]
"""Whether and how progress is shown: True for a bar, a function to be called, False for neither."""


AnyOutcome = TypeVar("AnyOutcome", bound=Outcome)


class Report:
    """Tells how far a run has come: with each outcome, and while none comes.

    All of it on the thread that takes the outcomes.

    Args:
        total: outcomes there will be, if known.
        show: True for a bar, or a function to be called.
        missing: says what the run has to do without for now.
    """

    def __init__(
        self,
        total: int | None,
        show: Literal[True] | Callable[[Progress], object],
        missing: Callable[[], str],
    ) -> None:
        self._show = show
        self._missing = missing
        self._began = time.monotonic()
        self._last = Progress(0, 0, total, 0.0)
        self._tell: Callable[[Progress], object] = lambda _progress: None

    def follow(self, outcomes: Generator[AnyOutcome]) -> Generator[AnyOutcome]:
        """The same outcomes; before each is handed out, how far the run has come is told."""
        self._began = time.monotonic()
        with self._showing() as self._tell, closing(outcomes):
            for outcome in outcomes:
                failed = self._last.failed + isinstance(outcome, Failure)
                self._update(done=self._last.done + 1, failed=failed)
                yield outcome

    def waiting(self) -> None:
        """Time passes: a bar goes on; a function is called if what is missing is new."""
        before, missing = self._last.missing, self._missing()
        if self._show is True or missing != before:
            self._update(missing=missing)

    def _update(self, **changes: Any) -> None:
        seconds = time.monotonic() - self._began
        self._last = replace(self._last, seconds=seconds, **changes)
        self._tell(self._last)

    @contextmanager
    def _showing(self) -> Iterator[Callable[[Progress], object]]:
        if self._show is True:
            with bar("evaluating", self._last.total) as update:
                yield update
        else:
            yield self._show


@contextmanager
def bar(
    what: str, total: int | None, *, transient: bool = False
) -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr, or in a notebook; the function given moves it.

    Args:
        what: is under way.
        total: steps; None where that is not known.
        transient: whether it vanishes at the end.
    """
    if in_notebook():
        shown_there = NotebookBar(what, total)
        try:
            yield shown_there.update
        finally:
            shown_there.close()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[failed]}", style="red"),
        Elapsed(),
        TextColumn("{task.fields[missing]}", style="bold red", markup=False),
    ]
    # Left to itself, rich would take stdout too, and send the data to the terminal.
    console = Console(file=sys.stderr)
    with Bar(*columns, console=console, transient=transient, redirect_stdout=False) as shown:
        task = shown.add_task(what, total=total, rate="", left="", failed="", missing="")

        def update(progress: Progress) -> None:
            failed = f"{progress.failed} failed" if progress.failed else ""
            rate = f"{progress.rate:.3g}/s"
            left = "" if progress.left is None else f"{show_duration(progress.left)} left"
            shown.update(
                task,
                completed=progress.done,
                rate=rate,
                left=left,
                failed=failed,
                missing=printable(progress.missing),
            )

        yield update
