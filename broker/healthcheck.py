"""Whether we are heard: what the health checks of containers ask, with the URL that we have.

``healthcheck.py control`` looks for a heartbeat, ``healthcheck.py worker`` for our echo of it: the
broker keeps either until shortly after the next one is due.
"""

from __future__ import annotations

import os
import sys
import threading

from icebus.bus import BrokerAddress, Bus
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.topics import CONTROL_HEARTBEAT, WORKER_HEARTBEAT

PATIENCE = 5.0
"""Seconds; the broker sends what it keeps within milliseconds, and beats come every second."""


def main(role: str) -> int:
    """Exit code: 0 when heard."""
    address = BrokerAddress.parse(os.environ["ICEBUS_BROKER"])
    heard = threading.Event()
    bus = Bus(address, "healthcheck", session_expiry=0)
    if role == "control":
        bus.subscribe(CONTROL_HEARTBEAT, lambda _: heard.set())
    else:
        bus.subscribe(WORKER_HEARTBEAT, lambda _: heard.set(), worker=address.user)
    try:
        bus.connect(Deadline.after(PATIENCE))
        return 0 if heard.wait(PATIENCE) else 1
    except IcebusError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    finally:
        bus.close(Deadline.after(1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
