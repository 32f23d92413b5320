"""``icebus workers``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from icebus.client.cli.connecting import survey_farm
from icebus.client.cli.options.shared_options import Output
from icebus.client.cli.output.printing import Column, Format, print_message, print_rows
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client._farm.survey import Survey

FIELDS = (
    "worker",
    "state",
    "version",
    "session",
    "devices",
    "serving",
    "queued",
    "heartbeat",
    "draining",
    "claims",
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(workers)


def workers(output: Output = Format.TABLE) -> None:
    """List the workers of the farm: whether they live, what boards they have, how busy they are.

    HEARTBEAT is for how long a worker has not answered control's; DRAINING, shown where one does,
    why it gets no new reservations; CLAIMS,
    likewise, which boards it says that it has though they are other workers'.

    Examples:
      icebus workers
      icebus workers -o json | jq '.[] | select(.state != "ready")'
    """
    from icebus.schemas.topics import (
        CLAIM,
        CONTROL_HEARTBEAT,
        DEVICE,
        WORKER_HEARTBEAT,
        WORKER_STATE,
    )

    farm = survey_farm(CONTROL_HEARTBEAT, WORKER_STATE, WORKER_HEARTBEAT, DEVICE, CLAIM)
    rows = [as_row(farm, worker) for worker in sorted(farm.workers)]
    columns = [
        Column("worker"),
        Column("state"),
        Column("version", minor=3),
        Column("session", minor=4),
        Column("devices", show=_counts),
        Column("serving", right=True, minor=1),
        Column("queued", right=True, minor=2),
        Column("heartbeat", show=_age, right=True),
        *([Column("draining")] if any(row["draining"] for row in rows) else []),
        *([Column("claims")] if farm.claims else []),
    ]
    print_rows(rows, columns, output, "worker", FIELDS)
    if not rows:
        print_message("No workers. `icebus doctor` says what to do.")
    elif farm.heartbeat is None:
        print_message(
            "Control is silent, so whether workers answer can't be told: `icebus doctor`."
        )
    if farm.claims:
        print_message(
            f"{counted(len(farm.claims), 'board')} of other workers are claimed besides: "
            "`icebus devices` says which, `icebus doctor` what to do."
        )


def as_row(farm: Survey, worker: str) -> dict[str, Any]:
    """A worker, for people and programs."""
    state, echo = farm.workers[worker], farm.heartbeats.get(worker)
    return {
        "worker": worker,
        "state": _state(farm, worker),
        "version": state.version,
        "session": state.session,
        "devices": dict(Counter(report.state.value for report in farm.reports(worker))),
        "serving": None if echo is None else echo.load.serving,
        "queued": None if echo is None else echo.load.queued,
        "heartbeat": farm.age(worker),
        "draining": state.draining,
        "claims": [
            claim.serial for _, claim in sorted(farm.claims.items()) if worker in claim.claimed_by
        ],
    }


def _state(farm: Survey, worker: str) -> str:
    """What it says of itself, unless it says that it is there and does not answer."""
    from icebus.schemas.liveness import is_gone

    said = farm.workers[worker]
    silent = farm.answers(worker) is False and not is_gone(said)
    return "unreachable" if silent else said.state.value


def _counts(devices: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(devices.items())) or "-"


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:g}s"
