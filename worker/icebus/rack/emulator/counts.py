"""Says what circuits do, one line of JSON for each that is asked for; the emulator's helper.

A request is ``{"bitstream": base64, "pins": [27]}``, the bitstream as the FPGA received it; the
answer ``{"cdone": true, "rates": {"27": 2000}, "unknown": false, "note": ""}``, with the pulses in
a second per pin.

What can't be known of the first pin is not made up: CDONE stays low then, and ``unknown`` says so.
A pin that the circuit leaves unknown otherwise does not rise.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from icebus.fpga import prepare, simulate
from icebus.schemas.boards.bitstream import BITSTREAM_SIZE
from icebus.schemas.errors import IcebusError

if TYPE_CHECKING:
    from types import FrameType

LIMIT_SECONDS: Final = 20.0
"""For one bitstream: no time passes on the emulated board meanwhile, and its host waits."""

_AFTER_LIMIT_SECONDS: Final = 1.0
"""For each of the pins that are left then."""

_HARD_LIMIT_FACTOR: Final = 1.5
"""The process ends when code that Python can't interrupt takes that much more CPU."""


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the FPGA does with a bitstream."""
    received = b64decode(request["bitstream"])
    # It comes in whole words.
    bitstream = received[:BITSTREAM_SIZE] if not any(received[BITSTREAM_SIZE:]) else received
    first, *others = request["pins"]
    notes: list[str] = []
    cdone, pulses = _rate(bitstream, first, notes)
    if pulses is None or not cdone:
        return {"cdone": False, "rates": {}, "unknown": pulses is None, "note": "; ".join(notes)}
    rates = {str(pin): _rate(bitstream, pin, notes)[1] or 0 for pin in others}
    return {
        "cdone": True,
        "rates": {str(first): pulses, **rates},
        "unknown": False,
        "note": "; ".join(notes),
    }


def _rate(bitstream: bytes, pin: int, notes: list[str]) -> tuple[bool, int | None]:
    """Whether CDONE rises, and the pulses of a pin in a second, ``None`` if nobody knows."""
    try:
        result = simulate(bitstream, 1.0, pin=pin)
    except IcebusError as error:
        notes.append(f"pin {pin}: {error}")
        return True, None
    except TimeoutError:
        notes.append(f"pin {pin}: simulation took longer than {LIMIT_SECONDS:g} s")
        return True, None
    except Exception as error:  # noqa: BLE001 (a count that isn't known is never invented)
        notes.append(f"pin {pin}: simulation failed: {error!r}")
        return True, None
    if result.note:
        notes.append(f"pin {pin}: {result.note}")
    return result.cdone, result.pulses


def main() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGALRM, _too_long)
    with contextlib.suppress(IcebusError):  # what is wrong will be said when it matters
        prepare()
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS, _AFTER_LIMIT_SECONDS)
        signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS * _HARD_LIMIT_FACTOR)  # it kills
        told = answer(json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()
