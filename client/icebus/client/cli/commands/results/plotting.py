"""Pictures of results: what ``--plot`` draws, with matplotlib, which is an optional extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from icebus.client.cli.json_schemas.kinds import measured_fields, measurement_schema
from icebus.client.cli.json_schemas.signatures import NUMERIC, types
from icebus.client.cli.output.printing import print_message, print_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from icebus.schemas.components import KindInfo
    from icebus.schemas.measuring import Outcome

WAVEFORM = "waveform"
"""Field of results, and argument of a measurement, that has a voltage over time."""

RATE = "rate"
"""Field of results with the samples a second of a waveform."""

FREQUENCY = "frequency"
"""Field of results that says more than the kind's first number, where all results tell it."""

MOST_WAVEFORMS = 40
"""Waveforms in one picture: more would be a carpet."""

MOST_PANELS = 8
"""Bitstreams whose waveforms are drawn below each other; those of more lie in one panel."""

MOST_NAMES = 30
"""Files or lines that are named in a picture."""


class Plot:
    """Collects what is measured, and draws it.

    Args:
        path: the file to draw into; its ending says in which format.
        info: the kind as workers offer it; None when none does.
        order: names of the bitstreams, in the order of the picture.

    Attributes:
        failed: whether the file could not be written.
    """

    def __init__(self, path: Path, info: KindInfo | None, order: Sequence[str] = ()) -> None:
        self._path = path
        self._number = next(
            (each.name for each in measured_fields(info) if types(each.schema) & NUMERIC), None
        )
        self._names = dict.fromkeys(order)
        self._rows: list[dict[str, Any]] = []
        self._waveforms = 0
        self.failed = False

    def add(self, outcome: Outcome) -> None:
        """Take note of an outcome; failures have nothing to show."""
        from icebus.schemas.measuring import Failure

        if isinstance(outcome, Failure):
            return
        row = {name: getattr(outcome, name, None) for name in (self._number, FREQUENCY) if name}
        waveform = getattr(outcome, WAVEFORM, None)
        if waveform:
            self._waveforms += 1
            if self._waveforms <= MOST_WAVEFORMS:
                row |= {WAVEFORM: waveform, RATE: getattr(outcome, RATE, None)}
        self._names[outcome.bitstream] = None
        self._rows.append({**row, "bitstream": outcome.bitstream, "serial": outcome.serial})

    def save(self) -> None:
        """Draw, if there is anything to draw.

        A file that can't be written is told and noted only: what was measured is printed after it.
        """
        if not self._rows:
            print_message(f"{self._path}: not drawn, there is no result")
            return
        from matplotlib.figure import Figure

        waveforms = [row for row in self._ordered(self._rows) if WAVEFORM in row]
        names = list(dict.fromkeys(row["bitstream"] for row in waveforms))
        panels = len(names) if 1 < len(names) <= MOST_PANELS else 1
        figure = Figure(figsize=(9, max(5.0, 1.8 * panels)), layout="constrained")
        axes = figure.subplots(panels, sharex=True, sharey=True, squeeze=False)[:, 0]
        if not waveforms:
            self._draw_numbers(axes[0])
        elif panels == 1:
            self._draw_waveforms(axes[0], waveforms)
        else:
            for each, name in zip(axes, names, strict=True):
                self._draw_waveforms(each, [row for row in waveforms if row["bitstream"] == name])
        for each in axes:
            each.grid(alpha=0.3)
        try:
            figure.savefig(self._path, dpi=150)
        except OSError as error:
            self.failed = True
            print_message(f"icebus: {self._path}: not drawn: {error.strerror or error}")
            return
        print_note(f"drawn: {self._path}")
        if self._waveforms > MOST_WAVEFORMS:
            print_message(
                f"{self._path}: the first {MOST_WAVEFORMS} of {self._waveforms} waveforms"
            )

    def _draw_waveforms(self, axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
        in_time = all(row[RATE] for row in rows)
        for row in rows:
            samples = row[WAVEFORM]
            times = [1000 * place / row[RATE] for place in range(len(samples))] if in_time else None
            label = f"{row['bitstream']} on {row['serial']}"
            axes.plot(times or range(len(samples)), samples, label=label, linewidth=1)
        axes.set(xlabel="ms" if in_time else "sample", ylabel="converter")
        axes.label_outer()
        if len(rows) <= MOST_NAMES:
            axes.legend(fontsize="x-small", loc="upper right")

    def _draw_numbers(self, axes: Axes) -> None:
        told = all(isinstance(row.get(FREQUENCY), (int, float)) for row in self._rows)
        key = FREQUENCY if told else self._number or ""
        places = {name: place for place, name in enumerate(self._names)}
        points: dict[str, list[tuple[int, float]]] = {}
        for row in self._ordered(self._rows):
            value = row.get(key)
            if isinstance(value, (int, float)):
                points.setdefault(row["serial"], []).append((places[row["bitstream"]], value))
        for serial, found in points.items():
            axes.plot(*zip(*found, strict=True), "o", label=serial, alpha=0.7)
        axes.set_ylabel(f"{key} (Hz)" if told else key.replace("_", " "))
        if len(places) <= MOST_NAMES:
            axes.set_xticks(list(places.values()), list(places), rotation=30, ha="right")
        else:
            axes.set_xlabel("bitstream")
        if len(points) <= MOST_NAMES:
            axes.legend(fontsize="x-small")

    def _ordered(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        places = {name: place for place, name in enumerate(self._names)}
        return sorted(rows, key=lambda row: (places[row["bitstream"]], row["serial"]))


def check_plot(path: Path | None, option: str = "--plot") -> None:
    """Find out, before anything is measured, whether a picture can be drawn into that file.

    Args:
        path: the file; None for no picture.
        option: that names it.

    Raises:
        ProgramMissing: matplotlib is not installed.
        BadParameter: it knows no such format, or there is no such folder.
    """
    if path is None:
        return
    from icebus.schemas.programs.installation import not_importable

    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise not_importable(error, option, "plot") from error
    formats = FigureCanvasBase.get_supported_filetypes()
    ending = path.suffix.removeprefix(".").lower()
    if ending not in formats:
        known = ", ".join(sorted(formats))
        raise typer.BadParameter(
            f"{option} {path}: the file's ending says the format; one of {known}"
        )
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{option} {path}: there is no folder {path.parent}")


@contextmanager
def plotting(
    path: Path | None, info: KindInfo | None, order: Sequence[str] = ()
) -> Iterator[Plot | None]:
    """Draw what is added within the block at its end, also when it ends early."""
    plot = None if path is None else Plot(path, info, order)
    try:
        yield plot
    finally:
        if plot is not None:
            plot.save()


def with_waveform(info: KindInfo, args: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """What a measurement takes, with its waveform where there is one and it is to be drawn."""
    if path is None or WAVEFORM not in measurement_schema(info).get("properties", {}):
        return args
    return {WAVEFORM: True, **args}
