"""What is evaluated on which devices, and what comes of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from icebus.schemas.errors import IcebusError, InvalidRequest
from icebus.schemas.ids import new_id


class Evaluation:
    """A bitstream for some devices.

    Args:
        serials: the devices; each evaluates it once.
        filepath: the bitstream.

    Raises:
        InvalidRequest: no device is named.
    """

    def __init__(self, serials: Iterable[str], filepath: str | os.PathLike[str]) -> None:
        self.serials = frozenset(serials)
        if not self.serials:
            raise InvalidRequest(
                "an evaluation needs a device: client.getSerials() has those that are reserved"
            )
        self.filepath = filepath
        self.id = new_id()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluation) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self.serials)}, {os.fspath(self.filepath)!r})"

    @property
    def data(self) -> str | os.PathLike[str]:
        """The bitstream, as clients of icebus take it."""
        return self.filepath


class PulseCountEvaluation(Evaluation):
    """A bitstream whose pulses some devices count."""


class VarMaxEvaluation(Evaluation):
    """A bitstream under which some devices sample a voltage."""


class EvaluationFailed:
    """Stands in results, as the class itself, where a device has measured nothing."""


class Result(tuple[str, Any, Any]):
    """A device's result, also by name; ``serial, evaluation, value = result`` works.

    Attributes:
        serial: the device.
        evaluation: what was evaluated.
        value: what was measured; :class:`EvaluationFailed` if nothing was.
        error: why nothing was; None if something was.
    """

    serial: str
    evaluation: Evaluation
    value: Any
    error: IcebusError | None

    def __new__(
        cls,
        serial: str,
        evaluation: Evaluation,
        value: Any,
        error: IcebusError | None = None,
        *,
        shown: Any = None,
    ) -> Result:
        """Make one; ``shown`` is the second of the three where that is not the evaluation."""
        self = super().__new__(cls, (serial, evaluation if shown is None else shown, value))
        self.serial, self.evaluation, self.value, self.error = serial, evaluation, value, error
        return self
