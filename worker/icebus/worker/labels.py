"""Labels that a worker is told: of all its devices, and of those at one USB port."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from icebus.schemas.boards.rack import is_port
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.message import now
from icebus.schemas.selectors import is_label, labels_of

MOST = 32
"""Labels of one device at most: they go with each of its reports."""

_KNOWN = frozenset(
    labels_of(
        "x",
        DeviceReport(
            serial="x",
            state=DeviceState.READY,
            since=now(),
            session="x",
            chip="x",
            port="x",
            firmware="x",
        ),
    )
)
"""What is known of every device without being told."""


@dataclass(frozen=True)
class Labels:
    """What devices are labelled with.

    Attributes:
        everywhere: on each device of the worker.
        ports: on what is plugged into a port, by its path.
    """

    everywhere: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, everywhere: Iterable[str], ports: Iterable[str]) -> Labels:
        """Read ``rack=b`` and ``1-1.2:bench=3``.

        Raises:
            InvalidRequest: that is no label, or one that every device has already.
        """
        at: dict[str, dict[str, str]] = {}
        for text in ports:
            port, colon, label = text.partition(":")
            if not colon or not is_port(port):
                raise InvalidRequest(
                    f"{text!r} names no USB port; write a port and a label, as in 1-1.2:bench=3"
                )
            at.setdefault(port, {}).update([_label(label)])
        labels = cls(dict(map(_label, everywhere)), at)
        if max(map(len, [labels.at(port) for port in (*at, "")])) > MOST:
            raise InvalidRequest(f"a device takes {MOST} labels at most")
        return labels

    def at(self, port: str) -> Mapping[str, str]:
        """The labels of what is plugged there; those of the port go first."""
        return {**self.everywhere, **self.ports.get(port, {})}


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not is_label(name, value):
        raise InvalidRequest(
            f"{text!r} is no label; write a name and a value without spaces, as in rack=b"
        )
    if name in _KNOWN:
        raise InvalidRequest(f"label {name!r} says what is known of every device; choose another")
    return name, value
