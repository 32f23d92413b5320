"""What an evaluation comes to: a result, or a failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from icebus.schemas import errors
from icebus.schemas.errors import IcebusError
from icebus.schemas.kinds.pulsecount import EvaluationFailure, Finished, PulseCountResult

LISTED = 3
"""Failures that the text of :class:`EvaluationsFailed` tells in full."""


@dataclass(frozen=True)
class Result:
    """One bitstream measured on one device.

    Attributes:
        serial: the device.
        bitstream: the bitstream's name.
        pulses: rising edges on pin ICE_27 in the measuring window.
        exact: true when counted, by a board or by complete simulation; false for an estimate.
        evaluation: the id of this evaluation.
        cdone: whether the FPGA took the configuration; None where not told.
        note: why the count is not exact.
        annotations: what was given with the bitstream.
        upload: seconds that the upload took.
        window: seconds from then to the report.
        at: when the worker had it.
        source: the very object that was given for the bitstream; it stays in this process, is not
            compared, and None for hooks. It lives as long as this does: for long runs, give paths
            or small objects rather than keep many results with their bytes.
    """

    serial: str
    bitstream: str
    pulses: int
    exact: bool
    evaluation: str
    cdone: bool | None = None
    note: str = ""
    annotations: dict[str, JsonValue] = field(default_factory=dict)
    upload: float = 0.0
    window: float = 0.0
    at: datetime | None = None
    source: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, serial: str, message: PulseCountResult) -> Result:
        """The result that a message tells of."""
        return cls(
            serial=serial,
            bitstream=message.bitstream,
            pulses=message.pulses,
            exact=message.exact,
            evaluation=message.evaluation,
            cdone=message.cdone,
            note=message.note,
            annotations=message.annotations,
            upload=message.upload,
            window=message.window,
            at=message.at,
        )


@dataclass(frozen=True)
class Failure:
    """One bitstream that has no result on one device.

    Attributes:
        serial: the device; of `map` the last that tried, empty when none did.
        bitstream: the bitstream's name.
        error: why; its ``code`` is stable.
        evaluation: the id of this evaluation.
        annotations: what was given with the bitstream.
        source: the very object that was given for the bitstream; None for hooks.
    """

    serial: str
    bitstream: str
    error: IcebusError
    evaluation: str
    annotations: dict[str, JsonValue] = field(default_factory=dict)
    source: Any = field(default=None, repr=False, compare=False)

    @property
    def where(self) -> str:
        """The bitstream and the device, for people."""
        return f"{self.bitstream} on {self.serial}" if self.serial else self.bitstream

    @classmethod
    def of(cls, serial: str, message: EvaluationFailure) -> Failure:
        """The failure that a message tells of."""
        return cls(
            serial=serial,
            bitstream=message.bitstream,
            error=IcebusError.from_info(message.error),
            evaluation=message.evaluation,
            annotations=message.annotations,
        )


Outcome = Result | Failure


@dataclass(frozen=True)
class BatchFinished:
    """Every evaluation of a batch on a device has had its outcome.

    Attributes:
        reservation: that holds the device.
        serial: the device.
        batch: the batch; one call of ``evaluate`` is one batch.
        results: how many.
        failures: how many.
    """

    reservation: str
    serial: str
    batch: str
    results: int
    failures: int

    @classmethod
    def of(cls, reservation: str, serial: str, message: Finished) -> BatchFinished:
        """What a message tells of."""
        return cls(reservation, serial, message.batch, message.results, message.failures)


class EvaluationsFailed(errors.EvaluationsFailed):
    """Some evaluations have no result; raised after the last outcome.

    Attributes:
        failures: those, at most the first 1,000.
    """

    failures: Sequence[Failure] = ()

    @classmethod
    def of(cls, failures: Sequence[Failure], count: int, outcomes: int) -> EvaluationsFailed:
        """The error for ``count`` failures among ``outcomes``, of which some are listed."""
        told = "; ".join(f"{failure.where}: {failure.error}" for failure in failures[:LISTED])
        more = f"; and {count - LISTED} more" if count > LISTED else ""
        error = cls(
            f"{count} of {outcomes} evaluations failed: {told}{more}",
            failed=count,
            outcomes=outcomes,
        )
        error.failures = failures
        return error
