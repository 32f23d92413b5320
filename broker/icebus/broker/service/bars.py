"""Barring who floods the broker: they may publish nothing for a while, and connections end.

The access list does it, which Mosquitto reads anew without ending anybody's connection. So it holds
also where connections can't be ended, or can't be told apart.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from icebus.broker.directory import BrokerDirectory
from icebus.broker.logins.watch import LoginWatch
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import now as moment
from icebus.schemas.topics import Role

log = logging.getLogger(__name__)

SAMPLE = 0.5
"""Seconds for which it is looked which of several controls sends most."""

MOST_OF_ALL = 0.8
"""Of what all controls send meanwhile, what the one that floods does at least."""


class Bars:
    """Bars principals.

    Args:
        files: the broker's directory, whose access list has who may publish.
        logins: knows whose connections there are; None where nobody knows.
    """

    def __init__(self, files: BrokerDirectory, logins: LoginWatch | None) -> None:
        self._files = files
        self._logins = logins

    def bar(self, who: str, seconds: float, why: str) -> bool:
        """Let them publish nothing, and end their connections; says so in the log.

        Args:
            who: a principal.
            seconds: for how long.
            why: what they did, for people.

        Returns:
            Whether that could be done.
        """
        until = moment() + timedelta(seconds=seconds)
        try:
            self._files.change(who, lambda each: each.model_copy(update={"barred_until": until}))
        except (IcebusError, OSError) as error:
            log.error(  # noqa: TRY400
                "%s %s, and can't be barred: %s", who, why, error, extra={"subject": who}
            )
            return False
        ended = None if self._logins is None else self._logins.end_connections_of(who)
        log.warning(
            "%s %s: it may publish nothing for %.0f s, and %s. See which program of it does that; "
            "if somebody else has its password or key, `icebus-broker remove %s`, or "
            "`icebus-broker add %s --new-password --now`",
            who,
            why,
            seconds,
            "its connections can't be ended here"
            if ended is None
            else f"{ended} of its connections were ended",
            who,
            who,
            extra={"subject": who},
        )
        return True

    def controls(self, stopping: threading.Event) -> list[str]:
        """Those controls that may be the one that floods; takes :data:`SAMPLE` seconds if several.

        What controls write does not say which of them has.
        """
        known = [each.id for each in self._files.principals.values() if each.role is Role.CONTROL]
        if len(known) < 2 or self._logins is None:
            return known
        before = self._logins.received(known)
        stopping.wait(SAMPLE)
        after = self._logins.received(known)
        sent = {who: after[who] - before.get(who, 0) for who in after}
        most = max(sent, key=lambda who: sent[who], default="")
        if not sent or sent[most] < MOST_OF_ALL * sum(sent.values()) or sent[most] <= 0:
            return known
        return [most]
