"""Whether we are heard: what the health checks of containers ask, with the URL that we have.

``healthcheck.py control`` looks for a heartbeat of a control that has its database,
``healthcheck.py worker`` for our echo of it: the broker keeps either until shortly after the next
one is due.
"""

from __future__ import annotations

import os
import sys
import threading

from icebus.bus import BrokerAddress, Bus, Incoming
from icebus.schemas.components import Heartbeat
from icebus.schemas.database import DatabaseTrouble
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import decode
from icebus.schemas.topics import CONTROL_HEARTBEAT, WORKER_HEARTBEAT

PATIENCE = 5.0
"""Seconds; the broker sends what it keeps within milliseconds, and beats come every second."""


def main(role: str) -> int:
    """Exit code: 0 when heard."""
    address = BrokerAddress.parse(os.environ["ICEBUS_BROKER"])
    heard = threading.Event()
    trouble: list[DatabaseTrouble] = []

    def on_heartbeat(incoming: Incoming) -> None:
        if incoming.payload:
            said = decode(Heartbeat, incoming.payload).database
            if said is not None:
                trouble.append(said)
            heard.set()

    bus = Bus(address, "healthcheck", session_expiry=0)
    if role == "control":
        bus.subscribe(CONTROL_HEARTBEAT, on_heartbeat)
    else:
        bus.subscribe(WORKER_HEARTBEAT, lambda _: heard.set(), worker=address.user)
    try:
        bus.connect(Deadline.after(PATIENCE))
        well = heard.wait(PATIENCE) and not trouble
    except IcebusError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    else:
        for each in trouble[:1]:
            sys.stderr.write(f"control's database {each.words}; {each.remedy}\n")
        return 0 if well else 1
    finally:
        bus.close(Deadline.after(1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
