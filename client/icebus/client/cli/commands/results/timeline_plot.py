"""The picture of a timeline: a lane for each board, with what it did and how much of its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from icebus.client.cli.commands.results.outcomes import as_row
from icebus.client.cli.commands.results.timeline_rows import Moments, board_uses, moments_of
from icebus.client.cli.output.printing import print_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from icebus.schemas.measuring import Outcome

MOST_LANES = 64
"""Boards in one picture: more could not be told apart."""

MOST_DRAWN = 50_000
"""Evaluations in one picture, which takes some seconds."""

_BARS = (
    ("upload", "sent", "uploaded", "#9ecae1", 0.62, 0.16),
    ("waiting on the board", "uploaded", "begun", "#d9d9d9", 0.62, 0.16),
    ("configuring", "begun", "configured", "#fdae6b", 0.1, 0.5),
    ("measuring", "configured", "measured", "#31a354", 0.1, 0.5),
)
"""Name, beginning, end, colour, and where in its lane: uploads lie over the measurement before."""


class Timeline:
    """Collects outcomes as they come, and draws when they were measured.

    Args:
        path: the file to draw into.

    Attributes:
        failed: whether the file could not be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._evaluations: list[Moments] = []
        self.failed = False

    def add(self, outcome: Outcome) -> None:
        """Take note of an outcome."""
        if len(self._evaluations) < MOST_DRAWN:
            self._evaluations.append(moments_of(as_row(outcome, ())))

    def save(self) -> None:
        """Draw, if there is anything to draw."""
        self.failed = not draw(self._path, self._evaluations)


@contextmanager
def drawing_timeline(path: Path | None) -> Iterator[Timeline | None]:
    """Draw what is added within the block at its end, also when it ends early."""
    timeline = None if path is None else Timeline(path)
    try:
        yield timeline
    finally:
        if timeline is not None:
            timeline.save()


def draw(path: Path, evaluations: Sequence[Moments]) -> bool:
    """Draw into a file; what keeps it from being written is told. Returns whether it was drawn."""
    from matplotlib.figure import Figure

    uses = board_uses(evaluations)
    if not uses:
        print_message(f"{path}: not drawn, no board has measured anything")
        return True
    lanes = {use.serial: place for place, use in enumerate(uses[:MOST_LANES])}
    shown = [each for each in evaluations if each.serial in lanes][:MOST_DRAWN]
    origin = min(_begin(each) for each in shown)
    figure = Figure(figsize=(11, 1.6 + 0.42 * len(lanes)), layout="constrained")
    axes = figure.subplots()
    for label, start, end, colour, bottom, height in _BARS:
        for serial, place in lanes.items():
            spans = [
                (begin - origin, max(0.0, stop - begin))
                for each in shown
                if each.serial == serial
                and (begin := _at(each, start)) is not None
                and (stop := _at(each, end)) is not None
            ]
            axes.broken_barh(
                spans,
                (place + bottom, height),
                facecolors=colour,
                edgecolors="none",
                label=label if place == 0 else None,
            )
    _mark(axes, lanes, shown, origin)
    axes.set_yticks([place + 0.4 for place in lanes.values()], list(lanes))
    axes.set_ylim(len(lanes), -0.1)
    right = axes.secondary_yaxis("right")
    right.set_yticks(
        [place + 0.4 for place in lanes.values()],
        [f"{use.measuring:.0%} measuring, {use.idle:.0%} idle" for use in uses[:MOST_LANES]],
    )
    begun = datetime.fromtimestamp(origin).astimezone()
    axes.set_xlabel(f"seconds since {begun:%Y-%m-%d %H:%M:%S}")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside upper center", ncols=6, fontsize="small")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        print_message(f"icebus: {path}: not drawn: {error.strerror or error}")
        return False
    print_message(f"drawn: {path}")
    _tell_left_out(path, len(uses), len(shown), len(evaluations))
    return True


def _mark(axes: Axes, lanes: dict[str, int], shown: Sequence[Moments], origin: float) -> None:
    failed = [each for each in shown if each.failed]
    if failed:
        axes.plot(
            [each.measured - origin for each in failed],
            [lanes[each.serial] + 0.35 for each in failed],
            "x",
            color="#de2d26",
            label="failed",
        )
    delivered = [(each.delivered, each.serial) for each in shown if each.delivered is not None]
    if delivered:
        axes.plot(
            [moment - origin for moment, _ in delivered],
            [lanes[serial] + 0.85 for _, serial in delivered],
            "|",
            color="#3182bd",
            markersize=4,
            label="delivered",
        )


def _at(each: Moments, name: str) -> float | None:
    """A moment; a board that does not tell when it was configured measures from the start."""
    if name == "configured" and each.configured is None:
        return each.begun
    moment: float | None = getattr(each, name)
    return moment


def _begin(each: Moments) -> float:
    return next((at for at in (each.sent, each.begun) if at is not None), each.measured)


def _tell_left_out(path: Path, boards: int, drawn: int, evaluations: int) -> None:
    if boards > MOST_LANES:
        print_message(f"{path}: the first {MOST_LANES} of {boards} boards")
    elif drawn == MOST_DRAWN < evaluations:
        print_message(f"{path}: the first {MOST_DRAWN} of {evaluations} evaluations")
