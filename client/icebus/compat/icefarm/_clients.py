"""iCEFARM's clients, on a farm of icebus.

One client has one reservation, which grows with each ``reserve``. Errors are raised as icebus has
them, where iCEFARM gave False.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import closing
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, cast

from icebus.client import (
    Failure,
    MeasuringBoards,
    MeasuringClient,
    PulseCountResult,
    VarianceResult,
)
from icebus.client import PulseCountClient as IcebusPulseCountClient
from icebus.client import Result as Measured
from icebus.client import VarianceClient as IcebusVarianceClient
from icebus.compat.icefarm._evaluations import (
    Evaluation,
    EvaluationFailed,
    PulseCountEvaluation,
    Result,
    VarMaxEvaluation,
)
from icebus.compat.icefarm._events import (
    AbstractEventHandler,
    Event,
    EventServer,
    LoggerEventHandler,
    Translator,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    IcebusError,
    InvalidRequest,
    NotEnoughDevices,
)

HOUR = 3600.0
"""Seconds that iCEFARM reserves and extends for."""

LONGEST_WAIT = 30 * 86_400.0
"""Seconds that anybody can wait for devices."""

LOOK_AGAIN = 1.0
"""Seconds between looks at what is free, for a client that waits and has a reservation."""

STALL = 300.0
"""The same where a program wants none: icebus's own."""

RESULT_TIMEOUT = 30.0
"""Seconds without a sign of life of a device, as iCEFARM has it."""

_OPTIONS = {"flush_interval_seconds", "flush_at_bitstreams_remaining", "args"}

MULTIPLE = "multipulsecount"
"""What iCEFARM calls the kind that counts on several pins; here it is one with that of one pin."""

R = TypeVar("R", bound=Measured)


class BaseClient(Generic[R]):
    """Reserves devices and evaluates bitstreams on them.

    Args:
        url: of an icebus broker, or a credentials file; with None, or iCEFARM's ``http://…``, the
            farm that the environment or the saved profiles name.
        client_name: for logs; who somebody is, the broker says.
        logger: what is told goes here.
        log_events: whether to log all events.

    Raises:
        IcebusError: there is no farm, or no way in.
    """

    evaluation: ClassVar[type[Evaluation]]
    _client_class: ClassVar[type[MeasuringClient[Any, Any]]]

    def __init__(
        self,
        url: str | None,
        client_name: str,
        logger: logging.Logger | None = None,
        log_events: bool = False,
    ) -> None:
        self.logger = logging.getLogger(__name__) if logger is None else logger
        self.name = client_name
        self.url = None if url is None or url.startswith(("http://", "https://")) else url
        self.server = EventServer()
        self._boards: MeasuringBoards[R] | None = None
        self._known: list[str] = []
        self._stopped = False
        self._client = self._client_class(self.url)
        self._client.register(Translator(self.server, lambda: self._known))
        if log_events:
            self.addEventHandler(LoggerEventHandler(self.server, self.logger))
        self.logger.info("%s is %s on this farm", client_name, self._client.user)

    def __repr__(self) -> str:
        devices = " ".join(self.getSerials()) or "no devices"
        return f"<{type(self).__name__} {self.name!r} as {self._client.user}, {devices}>"

    def addEventHandler(self, eh: AbstractEventHandler) -> None:
        """Give events to a handler."""
        self.server.addEventHandler(eh)

    # --- devices ------------------------------------------------------------------------------

    def available(self) -> int:
        """How many devices can be reserved now."""
        return len(self.availableDevices())

    def availableDevices(self) -> list[str]:
        """The devices that can be reserved now."""
        return self._client.available(self._client.kind)

    def getSerials(self) -> list[str]:
        """The devices that are reserved and work."""
        boards = self._boards
        if boards is None or boards.ended is not None:
            return []
        return [serial for serial in boards.serials if boards.problem(serial) is None]

    def reserve(
        self,
        amount: int | Sequence[str],
        wait_for_available: bool = False,
        available_timeout: float | None = 60,
        kind: str | None = None,
        **options: Any,
    ) -> list[str]:
        """Reserve devices, and wait until they are ready.

        Args:
            amount: how many, or which ones.
            wait_for_available: whether to wait until so many are free.
            available_timeout: seconds for that; None has no end.
            kind: only the client's own.
            **options: ``send_waveform`` of the variance client; how iCEFARM's workers gather
                results has no effect, for here each comes when it is there.

        Returns:
            The serials of the new devices.

        Raises:
            NotEnoughDevices: so many are not free, or were not in time.
            DeviceUnavailable: one of those named is not free.
        """
        if not isinstance(amount, int):
            return self.reserveSpecific(amount, kind, **options)
        self._check(kind, options)
        if not wait_for_available:
            return self._more(count=amount)
        seconds = LONGEST_WAIT if available_timeout is None else available_timeout
        deadline = Deadline.after(seconds)
        if self._held() is None:
            return self._more(count=amount, wait=seconds)
        while True:
            free = self.available()
            told = {"event": "devices_available", "amount": free}
            self.server.handleEvent(Event("", "devices_available", told))
            try:
                return self._more(count=amount)
            except NotEnoughDevices:
                if deadline.remaining < LOOK_AGAIN:
                    raise
            # Only what is reserved anew stands in the queue.
            time.sleep(LOOK_AGAIN)

    def reserveSpecific(
        self, serials: Sequence[str], kind: str | None = None, **options: Any
    ) -> list[str]:
        """Reserve those devices, and wait until they are ready.

        Raises:
            DeviceUnavailable: one is not free.
        """
        self._check(kind, options)
        return self._more(serials=list(serials))

    def extend(self, serials: Collection[str]) -> list[str]:
        """Extend the reservation, with all its devices, by an hour; those of ``serials`` in it."""
        boards = self._held()
        ours = [] if boards is None else [each for each in boards.serials if each in serials]
        if boards is not None and ours:
            boards.extend(HOUR)
        return ours

    def extendAll(self) -> list[str]:
        """Extend the reservation by an hour."""
        return self.extend(self.getSerials())

    def end(self, serials: Iterable[str]) -> list[str]:
        """Let go of devices; those of them that were reserved."""
        boards = self._held()
        wanted = set(serials)
        ours = [] if boards is None else [each for each in boards.serials if each in wanted]
        if boards is not None and ours:
            boards.release(None if set(ours) == set(boards.serials) else ours)
        return ours

    def endAll(self) -> list[str]:
        """Let go of all devices of this client."""
        boards = self._held()
        return [] if boards is None else self.end(boards.serials)

    def reboot(self, serials: Sequence[str], timeout: float | None = None) -> list[str]:
        """Restart devices, and wait until they are ready; those that are not."""
        boards = self._held()
        if boards is None or not serials:
            return list(serials)
        try:
            if timeout is None:
                boards.reboot(serials)
            else:
                boards.reboot(serials, timeout=timeout)
        except IcebusError as error:
            self.logger.warning("%s", error)
        return [serial for serial in serials if not boards.serves(serial)]

    def stop(self) -> None:
        """Let go of all devices, and of the farm."""
        if self._stopped:
            return
        self._stopped = True
        self.server.exit()
        self._client.close()

    # --- evaluating -----------------------------------------------------------------------------

    def evaluateEvaluations(
        self,
        evaluations: Iterable[Evaluation],
        result_timeout: float | None = RESULT_TIMEOUT,
        batch_size: int = 5,
        target_batches: int = 2,
    ) -> Generator[Result]:
        """Evaluate bitstreams, each on its own devices; results come as they are there.

        Args:
            evaluations: which bitstreams on which devices.
            result_timeout: seconds without a sign of life of a device, after which what it owes
                fails; None has icebus's own.
            batch_size: iCEFARM's, of no effect: devices are sent a few ahead in any case.
            target_batches: the same.

        Raises:
            InvalidRequest: nothing is reserved, or a file can't be read.
        """
        boards = self._held()
        if boards is None:
            raise InvalidRequest("nothing is reserved: call client.reserve(1) first")
        args = self._measurement()
        items = [(evaluation, sorted(evaluation.serials)) for evaluation in evaluations]
        stall = STALL if result_timeout is None else float(result_timeout)
        with closing(boards.evaluate_outcomes(items, args=args, stall=stall)) as outcomes:
            for outcome in outcomes:
                evaluation, _ = cast("tuple[Evaluation, list[str]]", outcome.source)
                result = self._result(evaluation, outcome)
                contents = {
                    "event": "results",
                    "serial": result.serial,
                    "batch_id": outcome.batch,
                    "results": [(evaluation.id, result.value)],
                }
                self.server.handleEvent(Event(result.serial, "results", contents))
                yield result

    def evaluateBitstreams(
        self, bitstreams: Iterable[str | os.PathLike[str]], serials: Iterable[str] | None = None
    ) -> Generator[Result]:
        """Evaluate bitstreams, each on all those devices; ``(serial, path, value)`` come of it."""
        chosen = list(serials or self.getSerials())
        evaluations = [self.evaluation(chosen, bitstream) for bitstream in bitstreams]
        for each in self.evaluateEvaluations(evaluations):
            yield Result(
                each.serial,
                each.evaluation,
                each.value,
                each.error,
                shown=each.evaluation.filepath,
            )

    def _measurement(self) -> dict[str, Any]:
        """What each measurement is asked for."""
        return {}

    def _result(self, evaluation: Evaluation, outcome: R | Failure) -> Result:
        if isinstance(outcome, Failure):
            self.logger.warning("%s: %s", outcome.where, outcome.error)
            return Result(outcome.serial, evaluation, EvaluationFailed, outcome.error)
        return Result(outcome.serial, evaluation, self._value(outcome))

    def _value(self, result: R) -> Any:
        raise NotImplementedError

    # --- what it has --------------------------------------------------------------------------

    def _held(self) -> MeasuringBoards[R] | None:
        boards = self._boards
        return None if boards is None or boards.ended is not None else boards

    def _more(
        self, *, count: int | None = None, serials: list[str] | None = None, wait: float = 0.0
    ) -> list[str]:
        held = self._held()
        if held is not None:
            new = held.grow(count, serials=serials)
            self._known = held.serials
            return new
        boards: MeasuringBoards[R] = self._client.reserve(
            count, serials=serials, duration=HOUR, wait=wait
        )
        self._boards = boards
        self._known = boards.serials
        return boards.serials

    def _check(self, kind: str | None, options: dict[str, Any]) -> None:
        unknown = options.keys() - _OPTIONS
        if unknown:
            raise TypeError(f"unknown arguments: {', '.join(sorted(unknown))}")
        if kind not in (None, self._client.kind):
            raise InvalidRequest(
                f"{type(self).__name__} reserves for {self._client.kind}, not for {kind}; use the "
                "client of that kind"
            )

    def __getattr__(self, name: str) -> NoReturn:
        if name in NO_COUNTERPART:
            raise InvalidRequest(f"{name} has no counterpart in icebus: {NO_COUNTERPART[name]}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


NO_COUNTERPART = {
    "addSerial": "devices come by reserve",
    "clearWorkers": "administrators have `icebus admin retire`",
    "getConnectionInfo": "workers have no addresses, all speak through the broker",
    "removeSerial": "devices go by end",
    "request": "there is no HTTP; icebus.client.Client calls methods of devices",
    "requestBatchWorker": "icebus.client.Client calls methods of devices",
    "requestControl": "there is no HTTP; icebus.client.Client asks control",
    "requestWorker": "icebus.client.Client calls methods of devices",
    "usingConnection": "workers have no addresses, all speak through the broker",
}


class PulseCountClient(BaseClient[PulseCountResult]):
    """Counts pulses; values are int."""

    evaluation = PulseCountEvaluation
    _client_class = IcebusPulseCountClient

    def _value(self, result: PulseCountResult) -> Any:
        return result.pulses


class MultiPulseCountClient(PulseCountClient):
    """Counts pulses on several pins at once; values are a tuple of int, one for each.

    Attributes:
        pins: of the FPGA's SG48 package, in the order of the values: those that iCEFARM documents,
            unless a program for a firmware with others sets them. A board that can't count one
            says which ones it can.
    """

    pins: tuple[int, ...] = (21, 25)

    def _check(self, kind: str | None, options: dict[str, Any]) -> None:
        super()._check(None if kind == MULTIPLE else kind, options)

    def _measurement(self) -> dict[str, Any]:
        return {"pins": list(self.pins)}

    def _value(self, result: PulseCountResult) -> Any:
        return tuple(result.pin_pulses[pin] for pin in self.pins)


class VarMaxClient(BaseClient[VarianceResult]):
    """Samples a voltage; values are a fitness, or with the waveform ``(fitness, samples)``.

    The fitness is iCEFARM's: the sum of the differences of consecutive samples, by their number.

    Args:
        url: see :class:`BaseClient`, as are the others.
        client_name: for logs.
        logger: what is told goes here.
        log_events: whether to log all events.
        send_waveform: whether values have the samples too.
    """

    evaluation = VarMaxEvaluation
    _client_class = IcebusVarianceClient

    def __init__(
        self,
        url: str | None,
        client_name: str,
        logger: logging.Logger | None = None,
        log_events: bool = False,
        send_waveform: bool = False,
    ) -> None:
        super().__init__(url, client_name, logger, log_events)
        self.send_waveform = send_waveform

    def _check(self, kind: str | None, options: dict[str, Any]) -> None:
        self.send_waveform = options.pop("send_waveform", self.send_waveform)
        super()._check(kind, options)

    def _measurement(self) -> dict[str, Any]:
        return {"waveform": True} if self.send_waveform else {}

    def _value(self, result: VarianceResult) -> float | tuple[float, list[int]]:
        fitness = result.mean_difference * (result.samples - 1) / result.samples
        return (fitness, list(result.waveform or ())) if self.send_waveform else fitness
