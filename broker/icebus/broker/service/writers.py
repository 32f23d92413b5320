"""Who has left a retained message, and whether it may stay. Pure: no clock and no I/O.

A topic says who has written it, in the level that the access list holds its writer to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from icebus.broker.access import Principal
from icebus.schemas.ids import CONTROL
from icebus.schemas.log_records import LARGEST_OF_DEVICE, LARGEST_RECENT
from icebus.schemas.topics import (
    CLAIM,
    CLIENT_STATE,
    CONTROL_STATE,
    DESIRED,
    DEVICE,
    DEVICE_LOG,
    EXPERIMENT,
    LARGEST_EXPERIMENT,
    LOG_RECENT,
    RESERVATION,
    TOPICS,
    WORKER_DESIRED,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
    Role,
    Topic,
)

CLIENTS_OF_USER = 200
"""Client states that are kept for one user; more are cleared. One that lives repeats its own."""

STATE_BYTES = 4096
"""Of a client's state; a true one has some 200."""

EXPERIMENTS_OF_USER = 200
"""Experiments that are kept for one user, for twelve hours; more are cleared."""

DEVICES_OF_WORKER = 2000
"""Reports on devices that are kept for one worker; a rack has a thousand boards at most."""

LOGS_OF_COMPONENT = 50
"""The latest log lines of a component have one topic, and are told anew while one looks."""

REPORT_BYTES = 64 << 10
"""Of a report on a device; a true one has some 500, and labels at most a few thousand more."""

OF_NOBODY = 10_000
"""Of one family, in names of nobody who is known: a control's, or of workers that are gone."""

COUNTED = {
    CLIENT_STATE.template: (CLIENTS_OF_USER, STATE_BYTES),
    EXPERIMENT.template: (EXPERIMENTS_OF_USER, LARGEST_EXPERIMENT),
    DEVICE.template: (DEVICES_OF_WORKER, REPORT_BYTES),
    DEVICE_LOG.template: (DEVICES_OF_WORKER, LARGEST_OF_DEVICE),
    LOG_RECENT.template: (LOGS_OF_COMPONENT, LARGEST_RECENT),
}
"""Topics that are kept, but only so many of each writer, and so large."""

OF_CONTROLS = {
    each.template: (most, each.limit)
    for each, most in (
        (CLAIM, OF_NOBODY),
        (CONTROL_STATE, OF_NOBODY),
        (DESIRED, DEVICES_OF_WORKER),
        (RESERVATION, OF_NOBODY),
        (WORKER_DESIRED, OF_NOBODY),
        (WORKER_HEARTBEAT, OF_NOBODY),
        (WORKER_KINDS, OF_NOBODY),
        (WORKER_STATE, OF_NOBODY),
    )
}
"""Likewise, where only controls can leave many. They are looked at when the broker grows."""

_LEVELS = ("{sender}", "{user}", "{worker}", "{id}", "{principal}", "{control}")
"""Levels that the access list holds a writer to, those first that say it alone."""


class Writers:
    """Tells whose a message is, and counts what of it may stay."""

    def __init__(self) -> None:
        self._families: defaultdict[tuple[int, str], list[tuple[Topic, list[str]]]]
        self._families = defaultdict(list)
        for each in TOPICS.values():
            names = each.template.split("/")
            self._families[len(names), names[0]].append((each, names))
        self._owners: dict[str, str] = {}
        self._kept: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def know(self, principals: Iterable[Principal]) -> None:
        """Learn who there is, and who speaks for which workers."""
        self._owners = {name: each.id for each in principals for name in each.own_ids}

    def begin(self) -> None:
        """Count anew."""
        self._kept.clear()

    def family_of(self, levels: list[str]) -> Topic | None:
        """The family of a topic, whatever stands where it has ids; None for no such."""
        # Somebody may have a million kept: this takes microseconds, paho's matching of filters
        # half a millisecond.
        for family, names in self._families.get((len(levels), levels[0]), ()):
            if all(
                name == level or name[0] == "{" for name, level in zip(names, levels, strict=True)
            ):
                return family
        return None

    def named(self, family: Topic, levels: list[str]) -> str:
        """The name by which whoever has written it goes there."""
        names = family.template.split("/")
        if set(family.writers) != {Role.CONTROL} or family is CONTROL_STATE:
            for level in _LEVELS:
                if level in names:
                    return levels[names.index(level)]
        return CONTROL

    def principal(self, name: str) -> str:
        """Whose name that is; ``control`` where it may be any control's, or nobody's any more."""
        return self._owners.get(name, CONTROL)

    def may_stay(self, family: Topic, levels: list[str], size: int) -> bool:
        """Whether a message may stay, which counts as one that does."""
        bounds = COUNTED.get(family.template) or OF_CONTROLS.get(family.template)
        if bounds is None:
            return family.retained
        most, largest = bounds
        of = levels[1] if family.template == DESIRED.template else self.named(family, levels)
        if of not in self._owners:
            of, most = CONTROL, OF_NOBODY
        kept, topic = self._kept[family.template, of], "/".join(levels)
        if topic not in kept:
            # What is told anew while one looks stays one.
            if len(kept) >= most:
                return False
            kept.add(topic)
        return size <= largest


def looked_at(all_of_them: bool) -> list[Topic]:
    """The families in which something may be kept that must not be.

    Args:
        all_of_them: whether also those in which only controls can leave many.
    """
    return [
        each
        for each in TOPICS.values()
        if not each.retained
        or each.template in COUNTED
        or (all_of_them and each.template in OF_CONTROLS)
    ]
