"""The bus: one adapter over paho-mqtt, request/response on it, and the broker it needs."""

from icebus.broker.address import BrokerAddress
from icebus.broker.bus import Bus
from icebus.broker.messages import Incoming, Will
from icebus.broker.requests import Requester
from icebus.broker.responses import Exchange, Responder
from icebus.broker.subscriptions import Subscription

__all__ = [
    "BrokerAddress",
    "Bus",
    "Exchange",
    "Incoming",
    "Requester",
    "Responder",
    "Subscription",
    "Will",
]
