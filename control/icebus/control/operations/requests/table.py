"""All operations that may be requested of control, by the names that stand in the topics.

What each takes and answers is documented in the schemas; here stands what does it.
"""

from __future__ import annotations

from icebus.control.operations.due import retirement
from icebus.control.operations.requests import administration, offers, queries, reserving
from icebus.control.operations.requests.remembered_requests import Operation, Operations
from icebus.schemas.operations import administration as administrators
from icebus.schemas.operations import reservations as users

USERS: Operations = {
    name: Operation(name, users.OPERATIONS[name][0], run, changes=changes)
    for name, run, changes in (
        ("reserve", reserving.reserve, True),
        ("withdraw", reserving.withdraw, True),
        ("grow", reserving.grow, True),
        ("extend", reserving.extend, True),
        ("end", reserving.end, True),
        ("reboot", reserving.reboot, True),
        ("transfer", offers.transfer, True),
        ("accept", offers.accept, True),
        ("decline", offers.decline, True),
        ("attach", reserving.attach, True),
        ("list", queries.reservations, False),
        ("devices", queries.devices, False),
        ("available", queries.available, False),
        ("history", queries.history, False),
        ("limits", queries.limits, False),
    )
}
"""What users may request."""

ADMINISTRATORS: Operations = {
    name: Operation(f"admin/{name}", administrators.OPERATIONS[name][0], run, changes=True)
    for name, run in (
        ("end", administration.end),
        ("reboot", administration.reboot),
        ("reflash", administration.reflash),
        ("quarantine", administration.quarantine),
        ("unquarantine", administration.unquarantine),
        ("forget", administration.forget),
        ("move", administration.move),
        ("drain", administration.drain),
        ("undrain", administration.undrain),
        ("retire", retirement.retire),
    )
}
"""What administrators may request too; the broker lets only them write its topic."""
