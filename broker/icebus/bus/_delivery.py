"""Bringing what the network delivers to those who subscribed to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import paho.mqtt.client as paho

from icebus.bus._admission.admission import Judgement
from icebus.bus._dispatcher import Dispatcher
from icebus.bus._messages import Root, from_paho
from icebus.bus._subscriptions import Subscription, Subscriptions
from icebus.schemas.errors import IcebusError, InvalidRequest

log = logging.getLogger(__name__)

MESSAGE_OVERHEAD = 1024
"""Bytes that a message takes in memory beside its payload, about."""


class Delivery:
    """Has messages handled on the dispatcher, those of users in turns.

    Args:
        root: that topics are relative to.
        subscriptions: who wants what.
        dispatcher: where handlers run.
    """

    def __init__(self, root: Root, subscriptions: Subscriptions, dispatcher: Dispatcher) -> None:
        self._root = root
        self._subscriptions = subscriptions
        self._dispatcher = dispatcher

    def take(self, message: paho.MQTTMessage, judgement: Judgement | None) -> None:
        """Enqueue a message; called on the network thread."""
        size = len(message.payload) + MESSAGE_OVERHEAD
        if judgement is None:
            self._dispatcher.take(lambda: self._deliver(message), size)
        else:
            refusal = judgement.refusal
            self._dispatcher.users.put(
                judgement.user, lambda: self._deliver(message, refusal), size
            )

    def _deliver(self, message: paho.MQTTMessage, refusal: IcebusError | None = None) -> None:
        topic = self._root.relative(message.topic)
        if topic is None:
            return
        for subscription in self._subscriptions.matching(message):
            self._hand_over(message, topic, subscription, refusal)

    def _hand_over(
        self,
        message: paho.MQTTMessage,
        topic: str,
        subscription: Subscription,
        refusal: IcebusError | None,
    ) -> None:
        ids = subscription.topic.parse(topic)
        if ids is None:
            ids = subscription.topic.levels_in(topic)
            refusal = refusal or InvalidRequest(subscription.topic.why_malformed(ids))
            log.warning("refused a message on %.200r: %s", topic, refusal, extra=_subject(ids))
        try:
            incoming = from_paho(self._root, topic, ids, message)
            try:
                if refusal is None:
                    subscription.handler(incoming)
            except IcebusError as error:
                log.warning("refused a message on %s: %s", topic, error, extra=_subject(ids))
                refusal = error
            if refusal is not None and subscription.refused is not None:
                subscription.refused(incoming, refusal)
        except Exception:
            log.exception("a handler failed on %s", topic, extra=_subject(ids))


def _subject(ids: Mapping[str, str]) -> dict[str, str | None]:
    """Whom a line of the log is about, so that nobody's flood hides what others did."""
    return {"subject": ids.get("user") or ids.get("worker")}
