"""From what went wrong to what the user reads, and the exit code: the one place for it."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Final

from icebus.client._reservation.named import VARIABLE

if TYPE_CHECKING:
    from icebus.schemas.errors import IcebusError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NOT_ENOUGH: Final = 4
UNREACHABLE: Final = 5
INVALID: Final = 6
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    OK: "done",
    FAILED: "some evaluations failed, or another error",
    USAGE: "wrong usage",
    NOT_FOUND: "not found, or not yours",
    NOT_ENOUGH: "not enough devices free, or more than you may have",
    UNREACHABLE: "no farm, broker, program or answer",
    INVALID: "invalid input, such as a broken bitstream",
    TIMED_OUT: "the time of --timeout was up before all was measured",
    INTERRUPTED: "interrupted",
}
"""What each exit code means, as `icebus --help` tells it."""

_COMMAND: Final = "`icebus "


@cache
def _by_error() -> dict[type[IcebusError], tuple[int, str]]:
    """The exit code and a hint, by class of error."""
    # Imported when something went wrong: `icebus --help` and TAB need none of it.
    from icebus.schemas import errors

    return {
        errors.UnknownReservation: (NOT_FOUND, "`icebus reservations` lists yours"),
        errors.ReservationEnded: (NOT_FOUND, "`icebus reserve` makes a new one"),
        errors.UnknownDevice: (NOT_FOUND, "`icebus devices` lists them"),
        errors.UnknownKind: (NOT_FOUND, ""),
        errors.UnknownMethod: (NOT_FOUND, ""),
        errors.UnknownPrincipal: (NOT_FOUND, ""),
        errors.Forbidden: (NOT_FOUND, "`icebus reservations --all` shows who holds what"),
        errors.DeviceNotHeld: (NOT_FOUND, "`icebus reservations` lists what you hold"),
        errors.NotEnoughDevices: (NOT_ENOUGH, "`icebus devices` shows who holds what"),
        errors.DeviceUnavailable: (NOT_ENOUGH, "`icebus devices` shows who holds what"),
        errors.LimitExceeded: (NOT_ENOUGH, "`icebus reservations` lists what you have"),
        errors.ReservationQueued: (NOT_ENOUGH, "`icebus reservations` shows what it waits for"),
        errors.NoProfile: (UNREACHABLE, ""),
        errors.BrokerUnavailable: (UNREACHABLE, ""),
        errors.NotAuthorized: (UNREACHABLE, "`icebus profile` shows the URL in use"),
        errors.ProgramMissing: (UNREACHABLE, ""),
        errors.DeadlineExceeded: (UNREACHABLE, ""),
        errors.DatabaseUnavailable: (UNREACHABLE, ""),
        errors.InvalidRequest: (INVALID, ""),
        errors.MeasurementUnsupported: (INVALID, ""),
        errors.BitstreamInvalid: (INVALID, "--no-validate sends it all the same"),
        errors.MessageTooLarge: (INVALID, ""),
    }


def _over() -> tuple[type[IcebusError], ...]:
    from icebus.schemas import errors

    return (errors.UnknownReservation, errors.ReservationEnded)


def _is_of_environment(error: IcebusError) -> bool:
    named = os.environ.get(VARIABLE)
    return bool(named) and error.details.get("reservation") == named


def describe(error: IcebusError) -> tuple[str, str, int]:
    """What to say of an error, a hint (or nothing), and the exit code."""
    known = _by_error()
    for cls in type(error).__mro__:
        if cls in known:
            code, hint = known[cls]
            if error.details.get("problem") == "size" or "size" in error.details:
                hint = ""  # what has another size is never sent: it would shift what follows it
            if isinstance(error, _over()) and _is_of_environment(error):
                hint = f"${VARIABLE} names it: `unset {VARIABLE}`"
                return error.message, hint, code
            if error.details.get("temporary") is True:
                return error.message, "`--wait 10m` stands in the queue for them", code
            # A message that names a command itself needs no other.
            return error.message, "" if _COMMAND in error.message else hint, code
    return error.message, "", FAILED
