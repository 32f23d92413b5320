"""Shell completion from the farm: quick, and quiet whatever goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer

from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client._survey import Survey
    from icebus.client.cli.signatures import Schema
    from icebus.schemas.components import KindInfo
    from icebus.schemas.operations.reservations import Reservation

ANSWER_TIME = 1.0
"""Seconds that somebody who has pressed TAB waits at most."""

SILENT_FOR = 30.0
"""Seconds for which a farm that did not answer in time is not asked again: nobody waits twice."""

Words: TypeAlias = list[tuple[str, str]]
"""What may stand there, and what it is."""


def complete_serial(ctx: typer.Context, incomplete: str) -> Words:
    """All devices, with what they do and for whom."""

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        for (_, serial), report in sorted(farm.devices.items(), key=lambda item: item[0][1]):
            holder = f", held by {report.user}" if report.user else ""
            yield serial, f"{report.state.value}{holder}"

    return _matching(ctx, incomplete, ["DEVICE"], candidates)


def complete_held_serial(ctx: typer.Context, incomplete: str) -> Words:
    """The devices that the user holds."""

    def candidates(farm: Survey, user: str) -> Iterator[tuple[str, str]]:
        for reservation in _of(farm, user):
            for device in reservation.devices:
                yield device.serial, f"{device.state.value}, {reservation.kind}"

    return _matching(ctx, incomplete, ["RESERVATION"], candidates)


def complete_reservation(ctx: typer.Context, incomplete: str) -> Words:
    """The user's reservations."""

    def candidates(farm: Survey, user: str) -> Iterator[tuple[str, str]]:
        for each in _of(farm, user):
            serials = " ".join(device.serial for device in each.devices[:3])
            more = " …" if len(each.devices) > 3 else ""
            yield each.id, f"{each.state.value}, {each.kind}: {serials}{more}"

    return _matching(ctx, incomplete, ["RESERVATION"], candidates)


def complete_offer(ctx: typer.Context, incomplete: str) -> Words:
    """Reservations that are offered to the user."""

    def candidates(farm: Survey, user: str) -> Iterator[tuple[str, str]]:
        for name, each in sorted(farm.reservations.items()):
            if each.offer is not None and each.offer.to == user:
                yield name, f"offered by {each.user}, {counted(len(each.devices), 'device')}"

    return _matching(ctx, incomplete, ["RESERVATION"], candidates)


def complete_farm(incomplete: str) -> Words:
    """Farms that are stored here; nobody has to be asked for them."""
    from icebus.client._saved_profiles import SavedProfiles

    return [(name, "") for name in SavedProfiles().names if name.startswith(incomplete)]


def complete_running_farm(incomplete: str) -> Words:
    """Farms that run on this machine, by their directories."""
    from icebus.client.local_farm.running_farms import running_farms

    return [
        (str(farm.directory), f"{counted(farm.boards, 'board')}, since {farm.since:%Y-%m-%d %H:%M}")
        for farm in running_farms()
        if str(farm.directory).startswith(incomplete)
    ]


def complete_any_reservation(ctx: typer.Context, incomplete: str) -> Words:
    """Everybody's reservations."""

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        for name, each in sorted(farm.reservations.items()):
            yield name, f"{each.user}'s, {each.state.value}, {counted(len(each.devices), 'device')}"

    return _matching(ctx, incomplete, ["RESERVATION"], candidates)


def complete_release(ctx: typer.Context, incomplete: str) -> Words:
    """The user's reservations, and the devices of those that were named."""
    named = ctx.params.get("words") or ()

    def candidates(farm: Survey, user: str) -> Iterator[tuple[str, str]]:
        for each in _of(farm, user):
            if each.id not in named:
                yield each.id, f"{each.state.value}, {each.kind}"
                continue
            for device in each.devices:
                yield device.serial, f"{device.state.value}, of {each.id}"

    return _matching(ctx, incomplete, ["RESERVATION"], candidates)


def complete_user(ctx: typer.Context, incomplete: str) -> Words:
    """Users who hold something; nobody but the broker knows all there are."""

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        for user, count in sorted(Counter(r.user for r in farm.reservations.values()).items()):
            yield user, f"holds {counted(count, 'reservation')}"

    return _matching(ctx, incomplete, ["RESERVATION"], candidates)


def complete_worker(ctx: typer.Context, incomplete: str) -> Words:
    """All workers."""

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        for worker, state in sorted(farm.workers.items()):
            yield worker, f"{state.state.value}, {counted(len(state.serials), 'device')}"

    return _matching(ctx, incomplete, ["WORKER_STATE"], candidates)


def complete_selector(ctx: typer.Context, incomplete: str) -> Words:
    """Labels that devices have, for the last requirement that is being typed."""
    before, comma, _ = incomplete.rpartition(",")

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        from icebus.schemas.selectors import labels_of

        has = Counter(
            f"{name}={value}"
            for (worker, _), report in farm.devices.items()
            for name, value in labels_of(worker, report).items()
        )
        for label, count in sorted(has.items()):
            yield f"{before}{comma}{label}", counted(count, "device")

    return _matching(ctx, incomplete, ["DEVICE"], candidates)


def complete_kind(ctx: typer.Context, incomplete: str) -> Words:
    """The kinds that workers offer."""

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        for offered in farm.kinds.values():
            for kind, info in offered.kinds.items():
                yield kind, info.description

    return _matching(ctx, incomplete, ["WORKER_KINDS"], candidates)


def complete_measuring_kind(ctx: typer.Context, incomplete: str) -> Words:
    """The kinds that workers offer and that measure."""

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        from icebus.client._offers import measures

        for offered in farm.kinds.values():
            for kind, info in offered.kinds.items():
                if measures(info):
                    yield kind, info.description

    return _matching(ctx, incomplete, ["WORKER_KINDS"], candidates)


def complete_reservation_argument(ctx: typer.Context, incomplete: str) -> Words:
    """What a reservation takes, of the kind that was named."""
    return _arguments(ctx, incomplete, lambda info: info.args)


def complete_measurement_argument(ctx: typer.Context, incomplete: str) -> Words:
    """What a measurement takes, of the kind that was named."""
    from icebus.client.cli.kind_schemas import measurement_schema

    return _arguments(ctx, incomplete, measurement_schema)


def _arguments(
    ctx: typer.Context, incomplete: str, schema_of: Callable[[KindInfo], Schema]
) -> Words:
    kind = ctx.params.get("kind")

    def candidates(farm: Survey, _user: str) -> Iterator[tuple[str, str]]:
        from icebus.client.cli.signatures import fields, type_of

        for offered in farm.kinds.values():
            if kind in offered.kinds:
                for field in fields(schema_of(offered.kinds[kind])):
                    yield f"{field.name}=", field.description or type_of(field.schema)

    return _matching(ctx, incomplete, ["WORKER_KINDS"], candidates)


def complete_method(ctx: typer.Context, incomplete: str) -> Words:
    """The methods of what the device that was named is held for, else all methods."""
    serial = ctx.params.get("serial")

    def candidates(farm: Survey, user: str) -> Iterator[tuple[str, str]]:
        held_for = {device.serial: each.kind for each in _of(farm, user) for device in each.devices}
        for offered in farm.kinds.values():
            for kind, info in offered.kinds.items():
                if kind == held_for.get(serial or "", kind):
                    for name, method in info.methods.items():
                        yield name, method.description

    return _matching(ctx, incomplete, ["WORKER_KINDS", "RESERVATION"], candidates)


def _of(farm: Survey, user: str) -> list[Reservation]:
    return [each for _, each in sorted(farm.reservations.items()) if each.user == user]


def _matching(
    ctx: typer.Context,
    incomplete: str,
    topics: Sequence[str],
    candidates: Callable[[Survey, str], Iterator[tuple[str, str]]],
) -> Words:
    """What ``candidates`` finds on the farm that begins with what was typed."""
    found: dict[str, str] = {}
    named = ctx.params.get("common_farm") or ctx.find_root().params.get("farm")
    silent = SilentFarm(named)
    if silent.lately:
        return []
    # Loaded before the clock runs, so that the farm has all of the time that there is.
    import_module("icebus.client._survey")

    def ask() -> None:
        # Nobody has asked for an error here, and one would be written over the prompt.
        with contextlib.suppress(Exception):
            farm, user = _ask(named, topics)
            for word, about in candidates(farm, user):
                found.setdefault(word, about)

    logging.disable()
    # An unreachable broker holds up whoever connects for longer than anybody waits for a TAB.
    asking = threading.Thread(target=ask, name="completion", daemon=True)
    asking.start()
    asking.join(ANSWER_TIME)
    if asking.is_alive():
        silent.note()
        return []  # it may still have something to say
    logging.disable(logging.NOTSET)
    words = list(found.items())
    return [(word, _line(about)) for word, about in words if word.startswith(incomplete)]


class SilentFarm:
    """Remembers for a while that a farm did not answer.

    Args:
        named: as `--farm` names it; None where it does not.
    """

    def __init__(self, named: str | None) -> None:
        meant = (named, os.environ.get("ICEBUS_URL"), os.environ.get("ICEBUS_FARM"))
        name = hashlib.sha256(repr(meant).encode(errors="replace")).hexdigest()[:16]
        folder = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        self._marker = Path(folder, f"icebus-silent-{os.getuid()}-{name}")

    @property
    def lately(self) -> bool:
        """Whether it did not when it was asked last, a moment ago."""
        try:
            status = self._marker.lstat()
        except OSError:
            return False
        return status.st_uid == os.getuid() and 0 <= time.time() - status.st_mtime < SILENT_FOR

    def note(self) -> None:
        """It did not answer."""
        with contextlib.suppress(OSError):
            flags = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._marker, flags, 0o600))
            os.utime(self._marker, follow_symlinks=False)


def _ask(named: str | None, topics: Sequence[str]) -> tuple[Survey, str]:
    """How the farm is, and who asks."""
    from icebus.bus import Bus
    from icebus.client._profile import find_address
    from icebus.client._survey import survey
    from icebus.schemas.deadline import Deadline
    from icebus.schemas.topics import TOPICS

    address = find_address(farm=named)
    deadline = Deadline.after(ANSWER_TIME)
    bus = Bus(address, name=f"{address.user}-tab", session_expiry=0)
    bus.connect(deadline)
    try:
        return survey(bus, deadline, [TOPICS[name] for name in topics]), address.user
    finally:
        bus.close(deadline)


def _line(about: str) -> str:
    """The first line, and nothing in it that a terminal would act on."""
    first = about.strip().split("\n", 1)[0][:80]
    return "".join(char if char.isprintable() else " " for char in first)
