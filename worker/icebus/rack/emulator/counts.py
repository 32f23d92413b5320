"""Says what circuits do, one line of JSON for each that is asked for; the emulator's helper.

A request is ``{"bitstream": base64, "pins": [27]}``, the bitstream as the FPGA received it; the
answer ``{"cdone": true, "rates": {"27": 2000}, "note": ""}``, with the pulses in a second per pin.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from typing import Any

from icebus.fpga import prepare, simulate
from icebus.schemas.errors import BitstreamUnsupported


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the FPGA does with a bitstream."""
    bitstream = b64decode(request["bitstream"])
    cdone, rates, notes = True, {}, []
    for pin in request["pins"]:
        try:
            result = simulate(bitstream, 1.0, pin=pin)
        except BitstreamUnsupported as error:
            notes.append(f"pin {pin}: {error}")
            continue
        cdone = result.cdone
        rates[str(pin)] = result.pulses
        if result.note:
            notes.append(f"pin {pin}: {result.note}")
    return {"cdone": cdone, "rates": rates, "note": "; ".join(notes)}


def main() -> None:
    """Answer until standard input ends."""
    prepare()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
