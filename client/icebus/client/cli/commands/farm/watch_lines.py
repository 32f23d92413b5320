"""Messages of the bus as lines for people: what changed, and why. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

Data = Mapping[str, Any]

_FACTS = ("state", "bitstream", "kind")
"""Of a message's data, what a line says as it is."""

_OVER = ("ending", "ended")

_GONE = {"reservation": "ended", "claim": "claimed by one worker only"}
"""What it means that a topic is empty, where it is not that something is gone."""

_KEPT = 1000
"""Reservations of which the boards are remembered: their outcomes may come after the end."""


class Senders:
    """Knows whose word on a board counts: of what a worker says of others' boards, nothing does."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, dict[str, str]] = OrderedDict()

    def counts(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is to be shown, given those before it, to which it then belongs."""
        from icebus.schemas.ids import CONTROL

        name, data = str(row.get("reservation")), row["data"]
        if row["what"] == "reservation":
            if isinstance(data, dict):
                devices = _dicts(data.get("devices"))
                owners = {str(each.get("serial")): str(each.get("worker")) for each in devices}
                self._owners[name] = owners
                self._owners.move_to_end(name)
                while len(self._owners) > _KEPT:
                    self._owners.popitem(last=False)
            return True
        sender = row.get("sender")
        if sender is None or sender == CONTROL:
            return True
        return self._owners.get(name, {}).get(str(row.get("serial"))) == str(sender)


class LineWriter:
    """Writes lines of rows, each with ``at``, ``what``, the ids of its topic, and ``data``.

    It remembers reservations, to say which boards came and went since.
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Data]] = {}

    def line(self, row: Mapping[str, Any]) -> str:
        """A row as a line."""
        who = row.get("serial") or row.get("reservation") or row.get("worker") or row.get("control")
        facts = " ".join(self._facts(row))
        at = _time(row["at"], "milliseconds")
        text = f"{at:<12}  {row['what']:<22}  {who or '':<18}  {facts}".rstrip()
        return "".join(char if char.isprintable() else "?" for char in text)

    def _facts(self, row: Mapping[str, Any]) -> Iterator[str]:
        data, what = row["data"], row["what"]
        if data is None:
            yield _GONE.get(what, "gone")
        elif isinstance(data, dict):
            yield from (str(data[key]) for key in _FACTS if data.get(key) not in (None, ""))
            if what == "results":
                yield from _measured(data)
            if data.get("user"):
                yield f"{'to' if what == 'transferred' else 'by'} {data['user']}"
            if what == "claim":
                names = " and ".join(map(str, _list(data.get("claimed_by"))))
                yield f"of {data.get('worker')} is claimed by {names} too: `icebus doctor`"
            if data.get("by"):
                yield f"replaced by {data['by']}"
            if isinstance(data.get("queue"), dict):
                yield f"at position {data['queue'].get('position')}: {data['queue'].get('reason')}"
            if isinstance(data.get("error"), dict):
                yield str(data["error"].get("message", ""))
            if data.get("reason"):
                yield f"({data['reason']})"
            if data.get("retry"):
                yield f"looked at again at {_time(data['retry'])}"
        if what == "reservation":
            yield from self._moves(row, data)

    def _moves(self, row: Mapping[str, Any], data: object) -> Iterator[str]:
        """Boards that came to a reservation, failed or left it, since it was last told of."""
        name = str(row.get("reservation"))
        if not isinstance(data, dict) or data.get("state") in _OVER:
            self._held.pop(name, None)
            return
        devices = {str(each.get("serial")): each for each in _dicts(data.get("devices"))}
        before = self._held.get(name)
        self._held[name] = devices
        for serial, device in devices.items():
            was = (before or {}).get(serial, {}).get("state")
            state = device.get("state")
            reason = f" ({device['reason']})" if device.get("reason") else ""
            if state == was:
                continue
            if state in ("failed", "released"):
                yield f"-{serial} {state}{reason}"
            elif was in (None, "failed", "released") and before is not None:
                yield f"+{serial}"


def _measured(data: Data) -> list[str]:
    """What was measured, in a word: the first that not all results have, of whatever kind."""
    from icebus.schemas.measuring import Result

    return [str(value) for name, value in data.items() if name not in Result.model_fields][:1]


def _dicts(value: object) -> list[Data]:
    """What of a list has parts, whatever else the network sent."""
    return [each for each in _list(value) if isinstance(each, dict)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _time(moment: object, precision: str = "seconds") -> str:
    """A moment as the clock on the wall shows it."""
    try:
        local = datetime.fromisoformat(str(moment)).astimezone().replace(tzinfo=None)
        return local.time().isoformat(precision)
    except ValueError:
        return str(moment)
