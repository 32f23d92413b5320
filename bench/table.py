"""Measurements on paper: a table for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from bench.machine import description
from bench.measure import Measure


def show(measures: list[Measure], *, as_json: bool) -> None:
    """Print what was measured, and on what machine."""
    if as_json:
        document = {
            "machine": description(),
            "measures": [{**asdict(each), "held": each.held} for each in measures],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("WHAT", "INCUMBENT", "TARGET", "MEASURED", ""):
        table.add_column(heading, justify="left" if heading == "WHAT" else "right")
    for each in measures:
        bound = "≥" if each.least else "≤"
        table.add_row(
            each.what,
            each.incumbent,
            "" if each.target is None else f"{bound} {each.target:g}",
            f"{_figure(each.value)} {each.unit}".strip(),
            {None: "", True: "held", False: "MISSED"}[each.held],
        )
    console = Console(width=120 if not sys.stdout.isatty() else None)
    console.print(table)
    here = description()
    console.print(f"\n{here['cpu']}, {here['cores']} cores, Python {here['python']}", style="dim")


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
