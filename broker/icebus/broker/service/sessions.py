"""Clears sessions that users left behind, where they are too many for one user; of components all.

Mosquitto 2.0 corrupts its memory when it reads anew who is known while it keeps a session of
somebody with a certificate, who is away. Ours ask for none; whoever has stolen a key might.

Mosquitto has no bound for them. Who connects under the id of a session, asking for a new one, ends
it; the principal ``broker`` does that here, under ids that Mosquitto's log has told.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from icebus.broker.access import CERTIFIED, Principal
from icebus.broker.logins.watch import LoginWatch
from icebus.bus import BrokerAddress, Bus
from icebus.schemas.deadline import Deadline

log = logging.getLogger(__name__)

CLEARING = 2.0
"""Seconds of clearing after which others have their turn, and the service may end."""

CONNECT_TIMEOUT = 2.0
"""Seconds to clear one, of which it takes some milliseconds."""


class Sessions:
    """A part of the broker's service.

    Args:
        logins: where it learns what to clear.
        address: of the broker, as the principal ``broker``.
    """

    def __init__(self, logins: LoginWatch, address: BrokerAddress) -> None:
        self._logins = logins
        self._components: frozenset[str] = frozenset()
        self._address = address

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin; there is nothing to subscribe to."""

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Learn who has a certificate."""
        self._components = frozenset(
            name for name, each in principals.items() if each.role in CERTIFIED
        )
        self._logins.keep_none_of(self._components)

    def tick(self) -> None:
        """Clear what is too much."""
        cleared: Counter[str] = Counter()
        deadline = Deadline.after(CLEARING)
        while not deadline.expired and (taken := self._logins.take_to_clear(1)):
            client, user = taken[0]
            if not self._clear(client):
                break
            if user not in self._components:
                cleared[user] += 1
        for user, count in cleared.items():
            log.log(
                logging.WARNING if count > 1 else logging.INFO,
                "cleared %d sessions that %s had left behind: too many for one user; connect with "
                "a session expiry of 0, or fewer clients",
                count,
                user,
                extra={"subject": user},
            )

    def stop(self) -> None:
        """End."""

    def _clear(self, client_id: str) -> bool:
        """End one session; returns whether the broker has let us."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self._address.user, self._address.password)
        deadline = Deadline.after(CONNECT_TIMEOUT)
        try:
            client.connect(self._address.host, self._address.port, clean_start=True)
            while not client.is_connected() and not deadline.expired:
                if client.loop(0.1) != paho.MQTT_ERR_SUCCESS:
                    return False
            return client.is_connected()
        except OSError:
            return False  # it is going down, or starting: what was kept is asked for again
        finally:
            client.disconnect()
