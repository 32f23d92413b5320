"""Reserve two boards, evaluate the three example circuits on both, print what they count.

Run it beside a farm (`icebus up`), or let a farm run just for it:

    icebus up --boards 2 -- python examples/evaluate.py
"""

from pathlib import Path

from icebus.client import PulseCountClient

circuits = sorted((Path(__file__).parent / "circuits").glob("*.bin"))

# Without a URL it finds the farm that `icebus up` runs on this machine.
with PulseCountClient() as client:  # noqa: SIM117
    with client.reserve(2) as boards:
        for result in boards.evaluate(circuits):  # every bitstream on every board, streamed
            print(result.serial, result.bitstream, result.pulses)
