"""``icebus top``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.commands.farm.keys import keys
from icebus.client.cli.connecting import CLOSE_TIMEOUT, CONNECT_TIMEOUT, FARM
from icebus.client.cli.output.printing import can_draw, print_json

if TYPE_CHECKING:
    from icebus.bus import Bus, Incoming
    from icebus.client.cli.commands.farm.top_state import TopState
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.topics import Topic

FIRST_LOOK = 3.0
"""Seconds in which two heartbeats of each worker have come, of which rates are made."""

WIDE = 120
"""Columns of what is printed where there is no terminal."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(top)


class TopFormat(StrEnum):
    """Form of the view."""

    TABLE = "table"
    JSON = "json"


def top(
    interval: Annotated[
        float,
        typer.Option("--interval", "-i", min=0.2, max=60.0, help="Seconds between refreshes."),
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    output: Annotated[TopFormat, typer.Option("--output", "-o", help="Form.")] = TopFormat.TABLE,
) -> None:
    """Show the farm live: boards by state, throughput, failures, who holds boards, the queue.

    Keys: q or Ctrl-C ends. Where there is no terminal, and with -o json, it is shown once: that
    takes a heartbeat or two, of which throughput is made. How fast single boards are is known of
    those that you hold, while they measure.

    Examples:
      icebus top
      icebus top -o json | jq .results_per_second
    """
    with _farm() as farm:
        if output is TopFormat.JSON:
            farm.wait_measured()
            print_json(farm.document(), indent=2)
        elif once or not can_draw():
            farm.wait_measured()
            _print(farm)
        else:
            _live(farm, interval)


def _live(farm: Farm, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from icebus.client.cli.commands.farm.top_view import view

    console = Console()
    try:
        with keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                farm.check_not_refused()
                live.update(view(farm.document(), farm.where, console.height), refresh=True)
                until = time.monotonic() + interval
                # A key that is held down is not to have it drawn more often.
                while (left := until - time.monotonic()) > 0:
                    if "q" in pressed(left).lower():
                        return
    except KeyboardInterrupt as ended:
        if type(ended) is not KeyboardInterrupt:  # SIGTERM: whoever sent it is told so
            raise


def _print(farm: Farm) -> None:
    from rich.console import Console

    from icebus.client.cli.commands.farm.top_view import view

    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(view(farm.document(), farm.where, None))


class Farm:
    """What is heard of a farm, for another thread to look at.

    Args:
        bus: that is subscribed here.
    """

    def __init__(self, bus: Bus, state: TopState) -> None:
        from icebus.client._connection.farm_watch import FarmWatch

        self._bus = bus
        self._state = state
        self._changed = threading.Condition()
        self._watch = FarmWatch(bus, self._told)
        self.where = f"{bus.address.host}:{bus.address.port} as {bus.address.user}"

    def listen(self) -> None:
        """Begin to listen."""
        from icebus.client.cli.commands.farm.top_state import TOPICS
        from icebus.schemas.topics import EVENT

        for topic in TOPICS:
            self._bus.subscribe(topic, partial(self._take, topic))
        self._bus.subscribe(EVENT, self._result_came, user=self._bus.address.user, event="results")

    def watch(self) -> None:
        """Tell from now on when the farm is away."""
        self._bus.on_problem(self._lost)
        self._watch.keep()

    def wait_measured(self) -> None:
        """Wait until all is known that is shown, or for as long as that takes."""
        with self._changed:
            self._changed.wait_for(lambda: self._state.measured(time.monotonic()), FIRST_LOOK)

    def document(self) -> dict[str, Any]:
        """The farm as it stands."""
        with self._changed:
            return self._state.document(time.monotonic(), datetime.now(UTC))

    def check_not_refused(self) -> None:
        """Go no further if the broker does not know us any more.

        Raises:
            NotAuthorized: it does not.
        """
        if (refusal := self._bus.refusal) is not None:
            raise refusal

    # --- on the dispatcher ----------------------------------------------------------------------

    def _take(self, topic: Topic, incoming: Incoming) -> None:
        from icebus.schemas.errors import IcebusError

        with self._changed:
            try:
                self._state.take(topic, incoming.ids, incoming.payload, time.monotonic())
            except IcebusError:
                return  # one bad message breaks nothing; `icebus doctor` looks for such
            self._changed.notify_all()

    def _result_came(self, incoming: Incoming) -> None:
        with self._changed:
            self._state.result_came(incoming.ids["serial"], time.monotonic())

    def _lost(self, problem: IcebusError) -> None:
        with self._changed:
            if self._state.away is None:
                self._state.away = (problem.message, datetime.now(UTC))

    def _told(self, event: str, told: IcebusError | datetime) -> None:
        with self._changed:
            since = None if self._state.away is None else self._state.away[1]
            if isinstance(told, datetime):
                self._state.away = None
            else:
                self._state.away = (told.message, since or self._watch.away_since)


@contextmanager
def _farm() -> Iterator[Farm]:
    """The farm that is meant."""
    from icebus.bus import Bus, check_role
    from icebus.client._profiles.profile import find_address
    from icebus.client.cli.commands.farm.top_state import TopState
    from icebus.schemas.deadline import Deadline
    from icebus.schemas.topics import Role

    address = find_address(farm=FARM.get())
    bus = Bus(address, name=f"{address.user}-top", session_expiry=0)
    farm = Farm(bus, TopState())
    farm.listen()
    bus.connect(Deadline.after(CONNECT_TIMEOUT))
    try:
        check_role(bus, Role.OBSERVER, "icebus top", Deadline.after(CONNECT_TIMEOUT))
        farm.watch()
        yield farm
    finally:
        bus.close(Deadline.after(CLOSE_TIMEOUT))
