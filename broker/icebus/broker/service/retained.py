"""Clears retained messages that nobody may leave: Mosquitto has no access list for the flag.

Whoever may publish on a topic may have the broker keep the message, by a last will too. So the
broker's service looks what is kept on topics where, by the contract, nothing is, and how many
clients each user says to have, and devices each worker, and clears the rest.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from icebus.bus import BrokerAddress, new_client_id
from icebus.schemas.deadline import Deadline
from icebus.schemas.log_records import LARGEST_OF_DEVICE, LARGEST_RECENT
from icebus.schemas.topics import (
    CLIENT_STATE,
    DEVICE,
    DEVICE_LOG,
    EXPERIMENT,
    LARGEST_EXPERIMENT,
    LOG_RECENT,
    TOPICS,
    Topic,
)

log = logging.getLogger(__name__)

INTERVAL = 3.0
"""Seconds between looks: a third of what it takes one connection to fill the broker's memory."""

CLIENTS_OF_USER = 200
"""Client states that are kept for one user; more are cleared. One that lives repeats its own."""

STATE_BYTES = 4096
"""Of a client's state; a true one has some 200."""

EXPERIMENTS_OF_USER = 200
"""Experiments that are kept for one user, for twelve hours; more are cleared."""

DEVICES_OF_WORKER = 2000
"""Reports on devices that are kept for one worker; a rack has a thousand boards at most."""

LOGS_OF_COMPONENT = 50
"""The latest log lines of a component have one topic, and are told anew while one looks."""

REPORT_BYTES = 64 << 10
"""Of a report on a device; a true one has some 500, and labels at most a few thousand more."""

ANSWER_TIMEOUT = 30.0
"""Seconds for the broker to say all that it keeps."""

_COUNTED = {
    CLIENT_STATE.template: (CLIENTS_OF_USER, STATE_BYTES),
    EXPERIMENT.template: (EXPERIMENTS_OF_USER, LARGEST_EXPERIMENT),
    DEVICE.template: (DEVICES_OF_WORKER, REPORT_BYTES),
    DEVICE_LOG.template: (DEVICES_OF_WORKER, LARGEST_OF_DEVICE),
    LOG_RECENT.template: (LOGS_OF_COMPONENT, LARGEST_RECENT),
}
"""Topics that are kept, but only so many of each writer, and so large."""


class RetainedGuard:
    """Looks every :data:`INTERVAL` seconds, on a thread and a connection of its own.

    A connection of its own, because it reads topics that are spelt as no component would: a level
    may be anything there that the access list does not fix.

    Args:
        address: of the broker, as the principal ``broker``.
        interval: seconds between looks.
    """

    def __init__(self, address: BrokerAddress, interval: float = INTERVAL) -> None:
        self._address = address
        self._interval = interval
        self._families = [
            each for each in TOPICS.values() if not each.retained or each.template in _COUNTED
        ]
        self._named = [(each, each.template.split("/")) for each in self._families]
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._found: Counter[tuple[str, str]] = Counter()
        self._kept: Counter[tuple[str, str]] = Counter()
        self._thread = threading.Thread(target=self._run, name="retained-guard", daemon=True)
        self._client = self._make_client()

    def start(self) -> None:
        """Begin; it connects by itself and goes on trying."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """End it by the deadline."""
        self._stopping.set()
        self._answered.set()
        if self._thread.is_alive():
            self._thread.join(timeout=deadline.remaining)

    # --- its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        address = self._address
        self._client.connect_async(address.host, address.port, clean_start=True)
        self._client.loop_start()
        try:
            pause = 0.0
            while not self._stopping.wait(pause):
                # What took a whole look to be said may have hidden more.
                pause = 0.0 if self._client.is_connected() and self._look() else self._interval
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _look(self) -> bool:
        """Clear what is kept and must not be; returns whether there was any."""
        self._found.clear()
        self._kept.clear()
        filters = [f"{self._address.root}/{each.filter()}" for each in self._families]
        options = SubscribeOptions(qos=0, retainAsPublished=True)
        if not self._ask(self._client.subscribe([(each, options) for each in filters])[0]):
            return False
        # What is kept comes before the answer to this.
        if not self._ask(self._client.unsubscribe(filters)[0]):
            return False
        found = dict(self._found)
        for (who, template), count in found.items():
            log.warning(
                "cleared %d retained messages of %s on %s: nothing may be kept there, or not so "
                "much of it; publish without the retain flag",
                count,
                who,
                template,
                extra={"subject": who},
            )
        return bool(found)

    def _ask(self, sent: int) -> bool:
        answered = sent == paho.MQTT_ERR_SUCCESS and self._answered.wait(ANSWER_TIMEOUT)
        self._answered.clear()
        return answered and not self._stopping.is_set()

    # --- paho's thread ------------------------------------------------------------------------

    def _make_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, new_client_id("retained"), protocol=paho.MQTTv5
        )
        client.username_pw_set(self._address.logs_in_as, self._address.password)
        client.on_subscribe = lambda *_: self._answered.set()
        client.on_unsubscribe = lambda *_: self._answered.set()
        client.on_message = self._on_message
        return client

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        if not message.retain or not message.payload:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        levels = topic.removeprefix(f"{self._address.root}/").split("/")
        family = self._family_of(levels)
        if family is None:
            return
        who = _writer(family, levels)
        if family.template in _COUNTED and self._may_stay(
            family.template, who, len(message.payload)
        ):
            return
        self._found[who, family.template] += 1
        self._client.publish(topic, b"", qos=0, retain=True)

    def _family_of(self, levels: list[str]) -> Topic | None:
        # A user may have a million kept, and all others wait for what is cleared meanwhile: this
        # takes microseconds, paho's matching of filters half a millisecond.
        for family, names in self._named:
            if len(names) == len(levels) and all(
                name == level or name.startswith("{")
                for name, level in zip(names, levels, strict=True)
            ):
                return family
        return None

    def _may_stay(self, template: str, who: str, size: int) -> bool:
        most, largest = _COUNTED.get(template, (0, 0))
        self._kept[template, who] += 1
        return size <= largest and self._kept[template, who] <= most


def _writer(family: Topic, levels: list[str]) -> str:
    """Who has written a message, by the level that the access list holds them to."""
    names = family.template.split("/")
    for level in ("{sender}", "{user}", "{worker}", "{id}"):
        if level in names:
            return levels[names.index(level)]
    return "control"
