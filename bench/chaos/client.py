"""A client in a run of chaos: reserves boards and evaluates on them until told to finish.

``python -m bench.chaos.client DIRECTORY NAME NUMBER BOARDS``; the broker is in ``ICEBUS_URL``.
It is killed, frozen and cut off like every other part of the farm, and started again; what it knows
is in its record. If that has a reservation which was not released, it attaches to it.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.chaos.client_record import ClientRecord, read_record
from bench.population import Individual, individual
from icebus.client import PulseCountClient, PulseCountResult
from icebus.client.kinds.pulsecount import Boards
from icebus.schemas.errors import IcebusError, ReservationEnded, UnknownReservation
from icebus.schemas.measuring import Failure

FINISH = "finish"
"""A file that tells clients to finish."""

MAX_RUNS = 6
"""Runs on a reservation before another is made."""

RUN_SIZES = (10, 60)
"""Fewest and most bitstreams of a run."""

RETRY_AFTER = 0.5
"""Seconds until something that failed is tried again."""

MAX_CLIENTS = 64
"""No two of so many clients evaluate the same bitstream."""


class Client:
    """One process of a client, from its start until it is killed or told to finish."""

    def __init__(self, directory: Path, name: str, number: int, boards: int) -> None:
        path = directory / f"{name}.jsonl"
        before = list(read_record(path))
        starts = sum(line["what"] == "start" for line in before)
        self._finish = directory / FINISH
        self._record = ClientRecord(path)
        self._random = random.Random(f"{name} {starts}")
        self._boards = boards
        self._runs = (f"{starts}-{count}" for count in itertools.count())
        self._steps = itertools.count(
            1 + number + MAX_CLIENTS * self._random.randrange(300), MAX_CLIENTS
        )
        # What was held before, if there was no time to release it.
        self._unreleased = next(
            (line["id"] for line in reversed(before) if line["what"] in ("held", "released")), ""
        )
        self._record.write("start", pid=os.getpid())

    def run(self) -> None:
        """Evaluate until told to finish."""
        pause = threading.Event()
        while True:
            try:
                with PulseCountClient() as client:
                    self._run_connected(client)
                break
            except IcebusError as error:
                self._record_error("connect", error)
                pause.wait(RETRY_AFTER)
        self._record.write("finished", threads=threading.active_count(), files=_descriptors())

    def _run_connected(self, client: PulseCountClient) -> None:
        pause = threading.Event()
        while True:
            try:
                if not self._unreleased:
                    # It may have been killed before the answer to its request came.
                    self._unreleased = next((each.id for each in client.reservations()), "")
                if self._finish.exists() and not self._unreleased:
                    return
                held, new = self._attach_or_reserve(client)
            except IcebusError as error:
                self._record_error("reserve", error)
                pause.wait(RETRY_AFTER)
                continue
            self._record.write("held", id=held.id)
            with held:
                if not new:
                    self._collect(held)
                for _ in range(self._random.randint(1, MAX_RUNS)):
                    if held.ended is not None or self._finish.exists():
                        break
                    self._evaluate(held)
                if not held.attached:
                    self._release(held)
            self._unreleased = ""
            self._record.write("released", id="")

    def _attach_or_reserve(self, client: PulseCountClient) -> tuple[Boards, bool]:
        if self._unreleased:
            unreleased, self._unreleased = self._unreleased, ""
            try:
                # What was measured can be collected even if a board is broken by now.
                return client.attach(unreleased, ready=False), False
            except (ReservationEnded, UnknownReservation):
                self._record.write("released", id="")
            except IcebusError:
                self._unreleased = unreleased
                raise
        held = client.reserve(
            self._random.randint(1, self._boards),
            detached=self._random.random() < 0.3,
            keep_alive=True,
            wait=self._random.choice((0.0, 20.0)),
            replace=self._random.random() < 0.3,
        )
        return held, True

    def _collect(self, held: Boards) -> None:
        """Collect what was measured before the client was killed."""
        try:
            for outcome in held.collect():
                self._record_outcome("collected", outcome)
        except IcebusError as error:
            self._record_error("collect", error)

    def _release(self, held: Boards) -> None:
        pause = threading.Event()
        while True:
            try:
                held.release()
            except IcebusError as error:
                self._record_error("release", error)
                pause.wait(RETRY_AFTER)
            else:
                return

    def _evaluate(self, boards: Boards) -> None:
        # Which boards an item is for is not known beforehand where they are replaced.
        everywhere = self._random.random() < 0.4 and not boards.document.replace
        individuals = self._population(self._random.randint(*RUN_SIZES))
        serials = boards.serials
        self._record.write(
            "run",
            run=next(self._runs),
            names=[each.name for each in individuals],
            on=serials if everywhere else [""],
        )
        outcomes: Iterator[PulseCountResult | Failure] = (
            boards.evaluate_outcomes(individuals)
            if everywhere
            else boards.map_outcomes(individuals)
        )
        count = 0
        middle = self._random.randrange(1, len(individuals))
        disturb = self._random.choices((None, self._reboot, self._release), (8, 2, 1))[0]
        try:
            for outcome in outcomes:
                count += 1
                self._record_outcome("outcome", outcome, everywhere=everywhere)
                if count == middle and disturb is not None:
                    disturb(boards)
        except IcebusError as error:
            self._record.write("refused", code=error.code, message=error.message, outcomes=count)
        else:
            self._record.write("end")

    def _reboot(self, boards: Boards) -> None:
        """Restart a board that measures, if any is left."""
        try:
            boards.reboot(
                self._random.sample(boards.serials, min(1, len(boards.serials))), ready=False
            )
        except IcebusError as error:
            self._record_error("reboot", error)

    def _population(self, size: int) -> list[Individual]:
        return [individual(step % 32_767 + 1) for step in itertools.islice(self._steps, size)]

    def _record_outcome(self, what: str, outcome: PulseCountResult | Failure, **more: Any) -> None:
        more |= {
            "name": outcome.bitstream,
            "serial": outcome.serial,
            "evaluation": outcome.evaluation,
        }
        if isinstance(outcome, PulseCountResult):
            more |= {"pulses": outcome.pulses, "exact": outcome.exact}
        else:
            more |= {"code": outcome.error.code, "message": outcome.error.message}
        self._record.write(what, **more)

    def _record_error(self, operation: str, error: IcebusError) -> None:
        self._record.write("error", operation=operation, code=error.code, message=error.message)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main(directory: str, name: str, number: str, boards: str) -> None:
    """Run a client; SIGTERM ends it as Ctrl-C would, so that what it holds is released."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    Client(Path(directory), name, int(number), int(boards)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
