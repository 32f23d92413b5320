"""How much of what users send control takes; the rest is refused before it is read.

A usual run asks control a few times a minute: it reserves, extends and releases. What its clients
say of themselves comes every few seconds.
"""

from __future__ import annotations

from icebus.bus import Allowance
from icebus.control.decide.limits import Limit

AT_ONCE = 10
"""Seconds' worth of requests that may come at once after a pause."""

CLIENT_STATES = Allowance(
    per_second=20,
    at_once=500,
    bytes_per_second=64 << 10,
    bytes_at_once=1 << 20,
    waiting=500,
    waiting_bytes=2 << 20,
)
"""Of all clients of a user together. As many as are there are heard at once on connecting."""


WORKER_STATES = Allowance(
    per_second=5, at_once=2000, bytes_per_second=1 << 20, bytes_at_once=64 << 20
)
"""Of one worker; so are the following. One that finds a thousand boards says so for each, and
names all of them."""

KINDS = Allowance(per_second=0.1, at_once=5, bytes_per_second=64 << 10, bytes_at_once=2 << 20)
"""Said once after each connect. To read schemas that are new takes up to 0.2 s."""

REPORTS = Allowance(per_second=200, at_once=5000, bytes_per_second=1 << 20, bytes_at_once=16 << 20)
"""Some for each device that is reserved or released, of a thousand at once. What is no report costs
a third of a millisecond, so all of these together are heard before other workers count as gone."""

ECHOES = Allowance(per_second=5, at_once=50, bytes_per_second=64 << 10, bytes_at_once=2 << 20)
"""One a heartbeat."""


def requests(limit: Limit) -> Allowance:
    """Of the requests of a user with that limit."""
    return Allowance(
        per_second=limit.requests_per_second,
        at_once=max(1, round(AT_ONCE * limit.requests_per_second)),
        bytes_per_second=1 << 20,
        bytes_at_once=8 << 20,
        waiting=500,
        waiting_bytes=4 << 20,
    )
