"""The bus: one adapter over paho-mqtt, request/response on it, and the broker it needs."""

from icebus.broker.address import BrokerAddress
from icebus.broker.bus import Bus, Incoming, Subscription, Will
from icebus.broker.requests import Requester
from icebus.broker.responses import Exchange, Responder

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
