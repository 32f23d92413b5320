"""``python -m bench.chaos``: lets parts of a farm fail at random.

Everything is a process of its own. Clients evaluate bitstreams whose counts are known while a
schedule that the seed decides has parts killed, stopped, frozen, cut off and unplugged, and has
boards misbehave. Then everything is repaired, and every promise is checked.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench.chaos.output import as_json, show
from bench.chaos.run import run_chaos
from bench.farm import Shape
from icebus.schemas.kinds.pulsecount import FIRMWARE, TEXT_FIRMWARE, WINDOW

BOTH = (FIRMWARE, TEXT_FIRMWARE)
"""What boards run by default: our own firmware has several measurements wait on the board, so that
more is lost with it."""


def main(
    seed: Annotated[int, typer.Option(help="Decides what fails when.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.5, help="How long things fail.")] = 2.0,
    boards: Annotated[int, typer.Option(min=2, help="Virtual boards in all.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Workers, each with a rack.")] = 2,
    clients: Annotated[int, typer.Option(min=1, max=64, help="That evaluate.")] = 3,
    controls: Annotated[
        int, typer.Option(min=1, max=9, help="With several, they share a PostgreSQL.")
    ] = 1,
    window: Annotated[
        float, typer.Option(min=0.01, help="Seconds that counting takes, of a window of 1 s.")
    ] = 0.2,
    firmware: Annotated[
        list[str] | None,
        typer.Option(help="What boards run, in turn.", show_default=", ".join(BOTH)),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="A new directory for logs and records, to be kept.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Let parts of a farm fail at random, and check whether every promise holds.

    Exits with 1 when one does not. The same seed gives the same schedule.
    """
    with tempfile.TemporaryDirectory(prefix="icebus-chaos-") as temporary:
        directory = keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        shape = Shape(
            boards,
            WINDOW,
            workers=workers,
            controls=controls,
            firmware=tuple(firmware or BOTH),
            speedup=WINDOW / window,
        )
        summary = run_chaos(seed, minutes * 60, shape, clients, directory)
    if json_output:
        typer.echo(json.dumps(as_json(summary), indent=2))
    else:
        show(summary)
    raise typer.Exit(1 if summary.broken else 0)


if __name__ == "__main__":
    typer.run(main)
