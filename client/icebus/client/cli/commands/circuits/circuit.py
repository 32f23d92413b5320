"""``icebus circuit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.options.shared_options import Output
from icebus.client.cli.options.shared_options import duration as duration_of
from icebus.client.cli.output.printing import Column, Format, print_message, print_rows
from icebus.client.cli.output.progress import step_progress

if TYPE_CHECKING:
    from icebus.client.circuits.pulses import Pulses

FIELDS = ("file", "frequency", "asked", "pulses_min", "pulses_max")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(circuit)


def circuit(
    frequencies: Annotated[
        list[str],
        typer.Argument(metavar="FREQUENCY", help="Such as 440, 2k, 2kHz or 1.5MHz."),
    ],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-d", help="Where the bitstreams go.")
    ] = Path(),
    window: Annotated[
        float,
        typer.Option(parser=duration_of, metavar="DURATION", help="For which pulses are foretold."),
    ] = 1.0,
    output: Output = Format.TABLE,
) -> None:
    """Build bitstreams that give pulses at chosen frequencies, to try a farm with.

    Each divides the 48 MHz clock on pin 35 and gives pulses on ICE_27 (pin 27). Needs yosys,
    nextpnr-ice40 and icepack.

    Examples:
      icebus circuit 2k 8kHz 1.5MHz
      icebus circuit 440 -o name | xargs icebus evaluate
    """
    from icebus.client.circuits.pulses import Pulses, parse_frequency
    from icebus.client.circuits.tools import build_all, find_tools

    wanted = dict.fromkeys(Pulses.at(parse_frequency(text)) for text in frequencies)
    tools = find_tools()
    built = {}
    with step_progress("building", len(wanted), streams=False) as step:
        for circuit, path in build_all(tools, wanted, output_dir):
            built[circuit] = path
            step()
    rows = [_row(circuit, built[circuit], window) for circuit in wanted]
    columns = [
        Column("file"),
        Column("frequency", right=True),
        Column("pulses", right=True),
    ]
    shown = rows if output is not Format.TABLE else [_for_people(row) for row in rows]
    print_rows(shown, columns, output, "file", FIELDS)
    for circuit in wanted:
        if circuit.off:
            _tell_off(circuit)


def _tell_off(circuit: Pulses) -> None:
    from icebus.client.circuits.pulses import show_frequency

    print_message(
        f"{circuit.name}: {show_frequency(circuit.frequency)} is the nearest to "
        f"{show_frequency(circuit.asked)} that divides 48 MHz"
    )


def _row(circuit: Pulses, path: Path, window: float) -> dict[str, Any]:
    fewest, most = circuit.expected(window)
    return {
        "file": str(path),
        "frequency": float(circuit.frequency),
        "asked": float(circuit.asked),
        "pulses_min": fewest,
        "pulses_max": most,
    }


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    fewest, most = row["pulses_min"], row["pulses_max"]
    return {
        "file": row["file"],
        "frequency": f"{row['frequency']:.10g} Hz",
        "pulses": str(most) if fewest == most else f"{fewest}-{most}",
    }
