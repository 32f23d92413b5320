"""``icebus doctor``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from icebus.client.cli.connecting import FARM
from icebus.client.cli.exit_codes import FAILED
from icebus.client.cli.options.shared_options import Output
from icebus.client.cli.output.printing import Column, Format, print_message, print_rows
from icebus.client.cli.output.progress import waiting_message

if TYPE_CHECKING:
    from icebus.client.doctor.finding import Finding

FIELDS = ("check", "level", "found", "remedy")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(doctor)


def doctor(output: Output = Format.TABLE) -> None:
    """Check this machine and the farm, and say what to do about what is wrong.

    A warning is about something that not everybody needs. Exits with 1 if anything failed.

    Examples:
      icebus doctor
      icebus doctor -o json | jq '.[] | select(.level != "ok")'
    """
    from icebus.client.doctor import farm, machine
    from icebus.client.doctor.finding import Level

    with waiting_message("looking at this machine and the farm"):
        found = [*machine.findings(), *farm.findings(FARM.get())]
    if output is Format.TABLE:
        rows = [row for finding in found for row in _lines(finding)]
        print_rows(rows, [Column(key, show=str) for key in FIELDS[:3]], output, "check")
    else:
        print_rows([asdict(finding) for finding in found], [], output, "check", FIELDS)
    failed = [finding for finding in found if finding.level is Level.FAIL]
    if failed:
        print_message(f"icebus: {len(failed)} of {len(found)} checks failed")
        raise typer.Exit(FAILED)


def _lines(finding: Finding) -> list[dict[str, str]]:
    """A finding as lines of a table: what is so, and below it what to do."""
    first = {"check": finding.check, "level": finding.level.value, "found": finding.found}
    if not finding.remedy:
        return [first]
    return [first, {"check": "", "level": "", "found": f"→ {finding.remedy}"}]
