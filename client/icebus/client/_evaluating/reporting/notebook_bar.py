"""A bar in a notebook, made of what every notebook shows: no widgets, and it stays when saved."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import TYPE_CHECKING, Any

from icebus.schemas.wording import show_duration

if TYPE_CHECKING:
    from icebus.client._evaluating.reporting.progress import Progress

PAUSE = 0.1
"""Seconds between two pictures: each is a message to the browser, and people see no more."""


def in_notebook() -> bool:
    """Whether what is shown goes to a notebook, rather than to a terminal or a file."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookBar:
    """Shows how far a run has come beneath the cell that runs.

    Args:
        what: is under way.
        total: steps; None where that is not known.
    """

    def __init__(self, what: str, total: int | None) -> None:
        from IPython import display

        self._what = what
        self._total = total
        self._last: Progress | None = None
        self._shown_at = 0.0
        show: Any = display.display
        self._handle = show(self._picture(None), raw=True, display_id=True)

    def update(self, progress: Progress) -> None:
        """Show how far it has come, if it is time to."""
        self._last = progress
        if time.monotonic() - self._shown_at >= PAUSE:
            self._show()

    def close(self) -> None:
        """Show how it ended."""
        self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        if self._handle is not None:
            self._handle.update(self._picture(self._last), raw=True)

    def _picture(self, progress: Progress | None) -> dict[str, str]:
        done = progress.done if progress else 0
        told = in_words(progress, self._total)
        value = "" if self._total is None else f' value="{done}" max="{max(self._total, 1)}"'
        bar = f'<progress{value} style="width:20em" aria-label="{escape(self._what)}"></progress>'
        away = f" <b>{escape(progress.missing)}</b>" if progress and progress.missing else ""
        text = f"{self._what}: {told}" + (f"; {progress.missing}" if progress else "").rstrip("; ")
        return {
            "text/plain": text,
            "text/html": f"<div>{escape(self._what)} {bar} {escape(told)}{away}</div>",
        }


def in_words(progress: Progress | None, total: int | None) -> str:
    """How far a run has come, for people."""
    done = progress.done if progress else 0
    parts = [f"{done}" if total is None else f"{done}/{total}"]
    if progress is None:
        return parts[0]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.rate:
        parts.append(f"{progress.rate:.3g}/s")
    if progress.left is not None and progress.done != total:
        parts.append(f"{show_duration(progress.left)} left")
    else:
        parts.append(show_duration(progress.seconds))
    return ", ".join(parts)
