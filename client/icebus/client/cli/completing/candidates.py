"""What may stand in a place of a command line, from what a farm retains. Pure.

Messages are JSON that nobody has checked: what is missing in one, or is something else, leaves out
no more than that one.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from icebus.client.cli.completing.retained import Retained
from icebus.schemas.wording import counted

Given: TypeAlias = Mapping[str, Any]
"""What stands on the command line, by the names of the command's function."""

Candidates: TypeAlias = Iterator[tuple[str, str]]

NAMED = 3
"""Devices of a reservation that are named."""

PEOPLE = ("user", "admin")
"""Roles of those who may hold devices."""

PROGRAMS = ("control", "broker")
"""Who does things by itself."""


def serials(farm: Retained, _user: str, _given: Given, _begun: str) -> Candidates:
    """All devices, with what they do and for whom."""
    for levels, report in sorted(farm["DEVICE"], key=lambda each: each[0][-1]):
        holder = f", held by {report['user']}" if report.get("user") else ""
        yield levels[-1], f"{report.get('state')}{holder}"


def held_serials(farm: Retained, user: str, _given: Given, _begun: str) -> Candidates:
    """The devices that the user holds."""
    for _, each in _of(farm, user):
        for device in _devices(each):
            yield device["serial"], f"{device['state']}, {each['kind']}"


def reservations(farm: Retained, user: str, _given: Given, _begun: str) -> Candidates:
    """The user's reservations."""
    for name, each in _of(farm, user):
        devices = [device["serial"] for device in _devices(each)]
        more = " …" if len(devices) > NAMED else ""
        yield name, f"{each['state']}, {each['kind']}: {' '.join(devices[:NAMED])}{more}"


def offers(farm: Retained, user: str, _given: Given, _begun: str) -> Candidates:
    """Reservations that are offered to the user."""
    for name, each in _reservations(farm):
        offer = each.get("offer")
        if isinstance(offer, dict) and offer.get("to") == user:
            yield name, f"offered by {each['user']}, {counted(len(_devices(each)), 'device')}"


def any_reservations(farm: Retained, _user: str, _given: Given, _begun: str) -> Candidates:
    """Everybody's reservations."""
    for name, each in _reservations(farm):
        devices = counted(len(_devices(each)), "device")
        yield name, f"{each['user']}’s, {each['state']}, {devices}"


def to_release(farm: Retained, user: str, given: Given, _begun: str) -> Candidates:
    """The user's reservations, and the devices of those that were named."""
    named = given.get("words") or ()
    for name, each in _of(farm, user):
        if name not in named:
            yield name, f"{each['state']}, {each['kind']}"
            continue
        for device in _devices(each):
            yield device["serial"], f"{device['state']}, of {name}"


def users(farm: Retained, _user: str, _given: Given, _begun: str) -> Candidates:
    """Who may hold devices: all, for administrators; else those of whom something is told."""
    holding = Counter(each["user"] for _, each in _reservations(farm))
    known = set(holding)
    for _, told in farm["PRINCIPALS"]:
        known |= {each["id"] for each in _all(told, "principals", "id", "role") if _holds(each)}
    for _, told in farm["CONTROL_HISTORY"]:
        known |= {each["user"] for each in _all(told, "entries", "user")}
    for name in sorted(known - set(PROGRAMS)):
        count = holding[name]
        yield name, f"holds {counted(count, 'reservation')}" if count else "holds nothing"


def workers(farm: Retained, _user: str, _given: Given, _begun: str) -> Candidates:
    """All workers."""
    for levels, state in sorted(farm["WORKER_STATE"], key=lambda each: each[0]):
        serials = state.get("serials")
        count = len(serials) if isinstance(serials, list) else 0
        yield levels[0], f"{state.get('state')}, {counted(count, 'device')}"


def selectors(farm: Retained, _user: str, _given: Given, begun: str) -> Candidates:
    """Labels that devices have, for the last requirement that is being typed."""
    before, comma, _ = begun.rpartition(",")
    has: Counter[str] = Counter()
    for levels, report in farm["DEVICE"]:
        worker, serial = levels
        labels = report.get("labels")
        known = dict(labels) if isinstance(labels, dict) else {}
        told = {name: report.get(name) for name in ("chip", "port", "firmware")}
        virtual = "true" if report.get("virtual") else "false"
        told |= {"worker": worker, "serial": serial, "virtual": virtual}
        known |= {name: value for name, value in told.items() if value}
        has.update(f"{name}={value}" for name, value in known.items())
    for label, count in sorted(has.items()):
        yield f"{before}{comma}{label}", counted(count, "device")


def kinds(farm: Retained, _user: str, _given: Given, _begun: str) -> Candidates:
    """The kinds that workers offer."""
    for kind, info in _kinds(farm):
        yield kind, str(info.get("description", ""))


def measuring_kinds(farm: Retained, _user: str, _given: Given, _begun: str) -> Candidates:
    """The kinds that workers offer and that measure."""
    for kind, info in _kinds(farm):
        if "evaluate" in _described(info, "methods") and "results" in _described(info, "events"):
            yield kind, str(info.get("description", ""))


def reservation_arguments(farm: Retained, _user: str, given: Given, _begun: str) -> Candidates:
    """What a reservation takes, of the kind that was named."""
    return _fields(farm, given, lambda info: info["args"])


def measurement_arguments(farm: Retained, _user: str, given: Given, _begun: str) -> Candidates:
    """What a measurement takes, of the kind that was named."""

    def schema_of(info: Mapping[str, Any]) -> Mapping[str, Any]:
        from icebus.client.cli.json_schemas.signatures import resolve

        evaluate = info["methods"]["evaluate"]["args"]
        return resolve(evaluate["properties"]["args"], evaluate.get("$defs", {}))

    return _fields(farm, given, schema_of)


def methods(farm: Retained, user: str, given: Given, _begun: str) -> Candidates:
    """The methods of what the device that was named is held for, else all methods."""
    held_for = {
        device["serial"]: each["kind"] for _, each in _of(farm, user) for device in _devices(each)
    }
    wanted = held_for.get(given.get("serial"))
    for kind, info in _kinds(farm):
        if wanted in (None, kind):
            for name, method in _described(info, "methods").items():
                yield name, str(method.get("description", ""))


COMPLETERS: Mapping[
    str, tuple[tuple[str, ...], Callable[[Retained, str, Given, str], Candidates]]
] = {
    "serial": (("DEVICE",), serials),
    "held_serial": (("RESERVATION",), held_serials),
    "reservation": (("RESERVATION",), reservations),
    "offer": (("RESERVATION",), offers),
    "any_reservation": (("RESERVATION",), any_reservations),
    "release": (("RESERVATION",), to_release),
    "user": (("RESERVATION", "PRINCIPALS", "CONTROL_HISTORY"), users),
    "worker": (("WORKER_STATE",), workers),
    "selector": (("DEVICE",), selectors),
    "kind": (("WORKER_KINDS",), kinds),
    "measuring_kind": (("WORKER_KINDS",), measuring_kinds),
    "reservation_argument": (("WORKER_KINDS",), reservation_arguments),
    "measurement_argument": (("WORKER_KINDS",), measurement_arguments),
    "method": (("WORKER_KINDS", "RESERVATION"), methods),
}
"""By name: the families of topics that each looks at, and what it finds there."""


def _reservations(farm: Retained) -> list[tuple[str, Mapping[str, Any]]]:
    told = [(levels[0], each) for levels, each in farm["RESERVATION"]]
    return sorted(
        (each for each in told if _has(each[1], "user", "state", "kind")), key=lambda each: each[0]
    )


def _of(farm: Retained, user: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, each) for name, each in _reservations(farm) if each["user"] == user]


def _devices(reservation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _all(reservation, "devices", "serial", "state")


def _all(message: Mapping[str, Any], name: str, *texts: str) -> list[Mapping[str, Any]]:
    """What a message lists under a name and has texts under all of those."""
    listed = message.get(name)
    return [each for each in listed if _has(each, *texts)] if isinstance(listed, list) else []


def _has(each: object, *texts: str) -> bool:
    return isinstance(each, dict) and all(isinstance(each.get(name), str) for name in texts)


def _holds(principal: Mapping[str, Any]) -> bool:
    return principal["role"] in PEOPLE


def _kinds(farm: Retained) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for _, offered in farm["WORKER_KINDS"]:
        infos = offered.get("kinds")
        for kind, info in infos.items() if isinstance(infos, dict) else ():
            if isinstance(info, dict):
                yield kind, info


def _described(info: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    """The methods or events of a kind."""
    told = info.get(name)
    infos = told.items() if isinstance(told, dict) else ()
    return {each: about for each, about in infos if isinstance(about, dict)}


def _fields(
    farm: Retained, given: Given, schema_of: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Candidates:
    from icebus.client.cli.json_schemas.signatures import fields, type_of

    for kind, info in _kinds(farm):
        if given.get("kind") not in (None, kind):
            continue
        with contextlib.suppress(AttributeError, KeyError, TypeError):  # it is no schema
            for field in fields(schema_of(info)):
                yield f"{field.name}=", field.description or type_of(field.schema)
