"""A client in a run of chaos: reserves boards and evaluates on them until told to finish.

``python -m bench.chaos.researcher DIRECTORY NAME NUMBER BOARDS``; the broker is in ``ICEBUS_URL``.
It is killed, frozen and cut off like every other part of the farm, and started again; what it knows
is in its ledger. A life that finds the reservation of the one before takes it up again.
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

from bench.chaos.outcomes import Ledger, read
from bench.population import Individual, individual
from icebus.client import PulseCountClient, PulseCountResult
from icebus.client.kinds.pulsecount import Boards
from icebus.schemas.errors import IcebusError, ReservationEnded, UnknownReservation
from icebus.schemas.measuring import Failure

FINISH = "finish"
"""A file that tells clients to come to an end."""

RUNS = 6
"""Runs on a reservation before another is made, at most."""

SIZES = (10, 60)
"""Bitstreams of a run."""

PAUSE = 0.5
"""Seconds until something that failed is tried again."""

STRIDE = 64
"""Clients that are told apart by the bitstreams they evaluate."""


class Researcher:
    """One life of a client."""

    def __init__(self, directory: Path, name: str, number: int, boards: int) -> None:
        path = directory / f"{name}.jsonl"
        before = list(read(path))
        lives = sum(line["what"] == "life" for line in before)
        self._finish = directory / FINISH
        self._ledger = Ledger(path)
        self._chance = random.Random(f"{name} {lives}")
        self._boards = boards
        self._runs = (f"{lives}-{count}" for count in itertools.count())
        self._steps = itertools.count(1 + number + STRIDE * self._chance.randrange(300), STRIDE)
        # What the life before held, if it did not live to let it go.
        self._left = next(
            (line["id"] for line in reversed(before) if line["what"] in ("held", "released")), ""
        )
        self._ledger.note("life", pid=os.getpid())

    def live(self) -> None:
        """Go on until told to finish."""
        pause = threading.Event()
        while True:
            try:
                with PulseCountClient() as client:
                    self._use(client)
                break
            except IcebusError as error:
                self._trouble("connect", error)
                pause.wait(PAUSE)
        self._ledger.note("finished", threads=threading.active_count(), files=_descriptors())

    def _use(self, client: PulseCountClient) -> None:
        pause = threading.Event()
        while True:
            try:
                if not self._left:
                    # Whoever dies before he knows what he has reserved looks whether he did.
                    self._left = next((each.id for each in client.reservations()), "")
                if self._finish.exists() and not self._left:
                    return
                held, new = self._hold(client)
            except IcebusError as error:
                self._trouble("reserve", error)
                pause.wait(PAUSE)
                continue
            self._ledger.note("held", id=held.id)
            with held:
                if not new:
                    self._collect(held)
                for _ in range(self._chance.randint(1, RUNS)):
                    if held.ended is not None or self._finish.exists():
                        break
                    self._run(held)
                if not held.attached:
                    self._release(held)
            self._left = ""
            self._ledger.note("released", id="")

    def _hold(self, client: PulseCountClient) -> tuple[Boards, bool]:
        if self._left:
            left, self._left = self._left, ""
            try:
                # What was measured can be collected though a board of it is broken by now.
                return client.attach(left, ready=False), False
            except (ReservationEnded, UnknownReservation):
                self._ledger.note("released", id="")
            except IcebusError:
                self._left = left
                raise
        held = client.reserve(
            self._chance.randint(1, self._boards),
            detached=self._chance.random() < 0.3,
            keep_alive=True,
            wait=self._chance.choice((0.0, 20.0)),
            replace=self._chance.random() < 0.3,
        )
        return held, True

    def _collect(self, held: Boards) -> None:
        """What was measured for the life before."""
        try:
            for outcome in held.collect():
                self._note("collected", outcome)
        except IcebusError as error:
            self._trouble("collect", error)

    def _release(self, held: Boards) -> None:
        pause = threading.Event()
        while True:
            try:
                held.release()
            except IcebusError as error:
                self._trouble("release", error)
                pause.wait(PAUSE)
            else:
                return

    def _run(self, boards: Boards) -> None:
        # Which boards an item is for is not known beforehand where they are replaced.
        everywhere = self._chance.random() < 0.4 and not boards.document.replace
        individuals = self._population(self._chance.randint(*SIZES))
        serials = boards.serials
        self._ledger.note(
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
        try:
            for outcome in outcomes:
                count += 1
                self._note("outcome", outcome, everywhere=everywhere)
        except IcebusError as error:
            self._ledger.note("refused", code=error.code, message=error.message, outcomes=count)
        else:
            self._ledger.note("end")

    def _population(self, size: int) -> list[Individual]:
        return [individual(step % 32_767 + 1) for step in itertools.islice(self._steps, size)]

    def _note(self, what: str, outcome: PulseCountResult | Failure, **more: Any) -> None:
        more |= {
            "name": outcome.bitstream,
            "serial": outcome.serial,
            "evaluation": outcome.evaluation,
        }
        if isinstance(outcome, PulseCountResult):
            more |= {"pulses": outcome.pulses, "exact": outcome.exact}
        else:
            more |= {"code": outcome.error.code, "message": outcome.error.message}
        self._ledger.note(what, **more)

    def _trouble(self, where: str, error: IcebusError) -> None:
        self._ledger.note("trouble", where=where, code=error.code, message=error.message)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main(directory: str, name: str, number: str, boards: str) -> None:
    """Live; SIGTERM ends it as Ctrl-C would, so that what it holds is released."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    Researcher(Path(directory), name, int(number), int(boards)).live()


if __name__ == "__main__":
    main(*sys.argv[1:])
