"""Calls of clients: who may call what on which device, checked before it reaches a device."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from functools import partial

from pydantic import JsonValue

from icebus.bus import Bus, Exchange, Incoming, Responder
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.errors import (
    DeviceNotHeld,
    DeviceNotServing,
    ErrorInfo,
    IcebusError,
    InternalError,
    TooManyRequests,
    UnknownDevice,
    UnknownMethod,
    WorkerLost,
)
from icebus.schemas.files import MAX_FILE_SIZE, Unpacking
from icebus.worker.blobs import BlobStore
from icebus.worker.device.device import Device
from icebus.worker.installed import Installed
from icebus.worker.inventory import Inventory
from icebus.worker.states import Hold
from icebus.worker.work import Work

log = logging.getLogger(__name__)

MOST_UNPACKED = 16 << 20
"""Bytes that the files of one call unpack to, on all its devices together; a single file passes on
any number of them. All other devices wait while they are read, some 4 ms for each megabyte."""

READING = 0.0002
"""Seconds that a call takes on other threads than those that it is measured on: to be received and
answered."""

CARRYING_OUT, CARRYING_OUT_BYTE = 0.0003, 4e-9
"""Seconds that a call takes on a device, about, and more for each byte of its files."""


class Calls:
    """Answers calls on the topics of one worker. Runs on the bus's dispatcher.

    Args:
        bus: to answer on.
        worker: this worker's id.
        inventory: the devices.
        installed: what devices may be reserved for.
        blobs: where files are found.
        work: what is spent for whom.
    """

    def __init__(
        self,
        bus: Bus,
        worker: str,
        inventory: Inventory,
        installed: Installed,
        blobs: BlobStore,
        work: Work,
    ) -> None:
        self._responder = Responder(bus, worker)
        self._worker = worker
        self._inventory = inventory
        self._kinds = installed.kinds
        self._blobs = blobs
        self._work = work
        self._closed = False

    def close(self) -> None:
        """Refuse what comes from now on."""
        self._closed = True

    def handle(self, incoming: Incoming) -> None:
        """Take a message from the call topic."""
        user = incoming.ids["user"]
        if (refusal := self.overworked(user)) is not None:
            log.info("refused %s: %s", user, refusal.message, extra={"subject": user})
            if self._work.may_tell(user):
                self.refuse(incoming, refusal)
            return
        begun = time.thread_time()
        try:
            self._answer(incoming)
        finally:
            self._work.charge(user, READING + time.thread_time() - begun)

    def overworked(self, user: str) -> TooManyRequests | None:
        """Why nothing is to be done for a user just now; None if something may."""
        pause = self._work.pause(user)
        if not pause:
            return None
        return TooManyRequests(
            f"what you had worker {self._worker} do took more than your share of its time, which "
            "others need too; call less often, with fewer or smaller files",
            retry_after=round(min(30.0, max(0.1, pause)), 3),
        )

    def _answer(self, incoming: Incoming) -> None:
        exchange = self._responder.accept(incoming, Call)
        if exchange is None:
            return
        try:
            if self._closed:
                raise WorkerLost(f"worker {self._worker} is being stopped; call again later")
            self._carry_out(exchange, incoming.ids["method"])
        except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
            exchange.fail(error)

    def refuse(self, incoming: Incoming, error: IcebusError) -> None:
        """Tell a caller that a message was not taken."""
        self._responder.refuse(incoming, error)

    def _carry_out(self, exchange: Exchange[Call], name: str) -> None:
        call, user = exchange.request, exchange.user
        hold = Hold(reservation=call.reservation, user=user)
        serials = list(dict.fromkeys(call.serials))
        held = [self._held(serial, hold) for serial in serials]
        kind = held[0][1]  # a reservation has one
        methods = self._kinds[kind].methods
        if name not in methods:
            raise UnknownMethod(
                f"kind {kind!r} has no method {name!r}; it has {', '.join(sorted(methods))}",
                methods=sorted(methods),
            )
        unpacking = Unpacking(max(MAX_FILE_SIZE, MOST_UNPACKED // len(serials)))
        find = partial(self._blobs.get, user, unpacking=unpacking)
        arguments = methods[name].parse(call.args, find, unpacking)
        answers = _PendingAnswers(exchange, len(held))
        # Before it is spent: else much could be asked for before the first of it is paid.
        expected = CARRYING_OUT + unpacking.used * CARRYING_OUT_BYTE
        self._work.charge(user, expected * len(held))

        def on_spent(seconds: float) -> None:
            self._work.charge(user, seconds - expected)

        for serial, (device, _) in zip(serials, held, strict=True):
            answers.add(serial, device.invoke(hold, name, arguments, on_spent))

    def _held(self, serial: str, hold: Hold) -> tuple[Device, str]:
        """The device, and the kind it serves as."""
        device = self._inventory.devices.get(serial)
        if device is None:
            raise UnknownDevice(
                f"worker {self._worker} has no device {serial!r}; `icebus devices` lists them",
                serial=serial,
            )
        status = device.status
        if status.hold == hold and status.kind is not None:
            return device, status.kind
        desired = device.desired
        if desired is not None and (desired.reservation, desired.user) == (
            hold.reservation,
            hold.user,
        ):
            state = status.state.value if status.state is not None else "starting"
            why = f" ({status.reason})" if status.reason else ""
            raise DeviceNotServing(
                f"device {serial} is {state}{why}; wait for its `initialized` event", serial=serial
            )
        raise DeviceNotHeld(
            f"device {serial} is not held by your reservation {hold.reservation}; "
            "`icebus reservations` lists yours",
            serial=serial,
        )


class _PendingAnswers:
    """Collects what each device answers, and answers the caller once all have."""

    def __init__(self, exchange: Exchange[Call], expected: int) -> None:
        self._exchange = exchange
        self._missing = expected
        self._lock = threading.Lock()
        self._results: dict[str, JsonValue] = {}
        self._errors: dict[str, ErrorInfo] = {}

    def add(self, serial: str, answer: Future[JsonValue]) -> None:
        answer.add_done_callback(lambda done: self._on_answer(serial, done))

    def _on_answer(self, serial: str, done: Future[JsonValue]) -> None:
        error = done.exception()
        with self._lock:
            if error is None:
                self._results[serial] = done.result()
            elif isinstance(error, IcebusError):
                self._errors[serial] = error.info()
            else:
                self._errors[serial] = InternalError(repr(error)).info()
            self._missing -= 1
            complete = self._missing == 0
        if complete:
            self._exchange.succeed(CallResults(results=self._results, errors=self._errors))
