"""What commands share: options, and the way to the farm."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated

import typer

from icebus.client.cli.durations import parse_duration
from icebus.client.cli.output import Format

if TYPE_CHECKING:
    from icebus.client.pulsecount import PulseCountClient

KIND = "pulsecount"


def duration(text: str | float) -> float:
    """A duration as an option takes it: seconds, from what a person wrote."""
    try:
        return parse_duration(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Output = Annotated[Format, typer.Option("--output", "-o", help="Form of what goes to stdout.")]
Kind = Annotated[str, typer.Option("--kind", help="What the boards are for.")]


PROFILE: ContextVar[str | None] = ContextVar("profile", default=None)
"""The profile that `icebus --profile` names."""


def connect() -> PulseCountClient:
    """A client of the farm in question."""
    from icebus.client.pulsecount import PulseCountClient

    return PulseCountClient(profile=PROFILE.get())
