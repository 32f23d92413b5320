"""The bus that every component speaks on: publish, subscribe, ask, answer, be present.

One adapter over paho-mqtt. What stands in ``__all__`` is public; the modules are private.
"""

from icebus.bus._address import BrokerAddress, check_root
from icebus.bus._answering import Exchange, Responder
from icebus.bus._asking import Requester
from icebus.bus._bus import RECONNECT_MAX, Bus, wait
from icebus.bus._messages import Incoming, Will
from icebus.bus._presence import Presence
from icebus.bus._subscriptions import Subscription

__all__ = [
    "RECONNECT_MAX",
    "BrokerAddress",
    "Bus",
    "Exchange",
    "Incoming",
    "Presence",
    "Requester",
    "Responder",
    "Subscription",
    "Will",
    "check_root",
    "wait",
]
