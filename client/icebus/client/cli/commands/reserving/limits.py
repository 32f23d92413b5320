"""``icebus limits``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from icebus.client.cli.connecting import connect
from icebus.client.cli.durations import show_until
from icebus.client.cli.options.shared_options import Output
from icebus.client.cli.output.printing import Column, Format, print_message, print_rows

if TYPE_CHECKING:
    from icebus.schemas.operations.limits import LimitsReply

FIELDS = (
    *("user", "groups", "devices", "devices_held", "reservations", "reservations_live"),
    *("priority", "hours_a_week", "hours_used", "hours_free_again", "selector"),
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(limits)


def limits(output: Output = Format.TABLE) -> None:
    """Tell what you may have at once and in a week, and what you have.

    Hours are those of holding one board, in the last 7 days; of what you hold, so far.

    Examples:
      icebus limits
      icebus limits -o json | jq '.[0].hours_used'
    """
    with connect() as client:
        found = client.limits()
    if output is not Format.TABLE:
        print_rows([found.model_dump(mode="json")], [], output, "user", FIELDS)
        return
    rows = [{"limit": name, "used": used, "of": most} for name, used, most in _rows(found)]
    print_rows(
        rows,
        [Column("limit"), Column("used", right=True), Column("of", right=True)],
        output,
        "limit",
    )
    if found.groups:
        print_message(f"{found.user} is in {', '.join(found.groups)}.")
    if found.selector:
        print_message(f"Boards with {' or '.join(found.selector)} only.")
    if found.hours_free_again is not None:
        print_message(f"There are hours again in {show_until(found.hours_free_again)}.")


def _rows(found: LimitsReply) -> list[tuple[str, str, str]]:
    hours = "all" if found.hours_a_week is None else f"{found.hours_a_week:g}"
    return [
        (
            "devices",
            str(found.devices_held),
            "all" if found.devices is None else str(found.devices),
        ),
        ("reservations", str(found.reservations_live), str(found.reservations)),
        ("hours in 7 days", f"{found.hours_used:.1f}", hours),
        ("priority", "", str(found.priority)),
    ]
