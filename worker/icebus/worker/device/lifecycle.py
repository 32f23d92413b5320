"""What a device may do after what, and what comes next: decisions only, all of them pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icebus.schemas.devices import Desired, DeviceState

_S = DeviceState

INITIAL = frozenset({_S.ABSENT, _S.TESTING, _S.FLASHING, _S.PREPARING, _S.BROKEN})

TRANSITIONS: dict[DeviceState, frozenset[DeviceState]] = {
    _S.ABSENT: frozenset({_S.TESTING, _S.FLASHING, _S.PREPARING, _S.BROKEN, _S.QUARANTINED}),
    _S.TESTING: frozenset(
        {_S.READY, _S.FLASHING, _S.PREPARING, _S.BROKEN, _S.QUARANTINED, _S.ABSENT}
    ),
    _S.FLASHING: frozenset({_S.TESTING, _S.PREPARING, _S.BROKEN, _S.QUARANTINED, _S.ABSENT}),
    _S.READY: frozenset(
        {_S.PREPARING, _S.SERVING, _S.TESTING, _S.FLASHING, _S.BROKEN, _S.QUARANTINED, _S.ABSENT}
    ),
    _S.PREPARING: frozenset(
        {
            _S.SERVING,
            _S.READY,
            _S.TESTING,
            _S.FLASHING,
            _S.BROKEN,
            _S.QUARANTINED,
            _S.ABSENT,
        }
    ),
    _S.SERVING: frozenset(
        {_S.RELEASING, _S.READY, _S.PREPARING, _S.SERVING, _S.BROKEN, _S.QUARANTINED, _S.ABSENT}
    ),
    _S.RELEASING: frozenset(
        {
            _S.READY,
            _S.PREPARING,
            _S.SERVING,
            _S.TESTING,
            _S.FLASHING,
            _S.BROKEN,
            _S.QUARANTINED,
            _S.ABSENT,
        }
    ),
    _S.BROKEN: frozenset({_S.TESTING, _S.FLASHING, _S.PREPARING, _S.ABSENT, _S.QUARANTINED}),
    _S.QUARANTINED: frozenset({_S.TESTING, _S.FLASHING, _S.PREPARING, _S.BROKEN, _S.ABSENT}),
}
"""From each reported state, those that can follow. None is followed by ``ready`` or ``serving``
without a test of the board in between; ``testing`` is for nobody, so work for a reservation is
``preparing`` before it is ``serving``."""

HEALTHY = frozenset({_S.READY, _S.SERVING})
"""What a device reports once nothing is wrong with it. Only then are its failures forgotten: a
board that takes one firmware but not the other must not be flashed for ever."""


def may_follow(before: DeviceState | None, after: DeviceState) -> bool:
    """Whether a device that reports ``before`` (None: nothing yet) may go on to ``after``."""
    if before is None:
        return after in INITIAL
    return before is after or after in TRANSITIONS[before]


def preparing_or(desired: Desired | None, otherwise: DeviceState) -> DeviceState:
    """What work on a board is reported as: ``preparing`` when it is for a reservation."""
    wanted = desired is not None and desired.reservation is not None
    return DeviceState.PREPARING if wanted else otherwise


def still_wanted(desired: Desired | None, reservation: str, user: str, kind: str) -> bool:
    """Whether a device that serves so is to go on with it."""
    return (
        desired is not None
        and desired.quarantined is None
        and (desired.reservation, desired.user, desired.kind) == (reservation, user, kind)
    )


# --- what a healthy device does next -------------------------------------------------------------


@dataclass(frozen=True)
class BeReady:
    """Wait for a reservation."""


@dataclass(frozen=True)
class Quarantine:
    """Serve nobody until an administrator says otherwise."""

    reason: str


@dataclass(frozen=True)
class Flash:
    """Put one of this firmware on the board first: the first of which there is an image."""

    firmware: tuple[str, ...]


@dataclass(frozen=True)
class Serve:
    """Be this kind of state for the reservation."""

    kind: str


@dataclass(frozen=True)
class Refuse:
    """The desired state can't be had."""

    reason: str


Step = BeReady | Quarantine | Flash | Serve | Refuse


def next_step(
    desired: Desired | None, firmware: str, usable: Mapping[str, tuple[str, ...]]
) -> Step:
    """What a healthy, idle device does next.

    Args:
        desired: what control wants; None while it has not said.
        firmware: what the board was proved to run.
        usable: the firmware that will do for each kind this worker offers, preferred first.
    """
    if desired is None:
        return BeReady()
    if desired.quarantined is not None:
        return Quarantine(desired.quarantined)
    if desired.reservation is None or desired.user is None or desired.kind is None:
        return BeReady()
    if desired.kind not in usable:
        return Refuse(f"this worker does not offer kind {desired.kind!r}")
    if firmware not in usable[desired.kind]:
        return Flash(usable[desired.kind])
    return Serve(desired.kind)
