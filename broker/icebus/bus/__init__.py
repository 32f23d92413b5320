"""The bus: what every component uses to speak to the others, over the broker.

One adapter over paho-mqtt, so that what is hard about MQTT is done once: connections that come
back, messages that wait, handlers that must not block, requests that are tried again and answered
once. How a message is carried is said by its topic, in :mod:`icebus.schemas.topics`.

- :class:`Bus` publishes and subscribes, for the broker and user that a :class:`BrokerAddress`
  names, read from a URL or from a file of :class:`Credentials`; a :class:`Subscription` brings
  :class:`Incoming` messages; a :class:`Will` is published by the broker when we die.
- :class:`CertificateFiles` are an address's certificates for programs that read them from files.
- An :class:`Invitation` is a line with which somebody gets an account, once.
- :class:`Requester` asks and returns an :class:`Answer`; a :class:`Responder` makes requests into
  :class:`Exchange` objects, to be answered once.
- :class:`StatePublisher` keeps what the broker says of us true; a :class:`LogPublisher` publishes
  what we log.
- :func:`glance` looks at what the broker retains and disconnects, for health checks.
- :func:`client_context` has what TLS to a broker is opened with, for who carries others' bytes.
- :func:`wait_for` waits for a future until a deadline, :func:`wait_on` for a condition; an
  :class:`Interruption` ends such waits of a thread, and :func:`sleep`, and what is
  :func:`interruptible`, with :class:`Interrupted`.

What stands in ``__all__`` is public, here and in no other module of the package.
"""

from icebus.bus._admission.allowances import Allowance, Bucket
from icebus.bus._admission.turns import Turns
from icebus.bus._broker_address.address import BrokerAddress, check_root
from icebus.bus._broker_address.certificate_files import CertificateFiles
from icebus.bus._broker_address.credentials import Credentials
from icebus.bus._broker_address.invitation import Invitation
from icebus.bus._bus import RECONNECT_MAX, Bus, new_client_id
from icebus.bus._connection.tls import client_context
from icebus.bus._glance import Glance, glance
from icebus.bus._interruption import Interrupted, Interruption, interruptible, sleep, wait_on
from icebus.bus._log.publisher import LogPublisher
from icebus.bus._messages import Incoming, Will
from icebus.bus._requests.answering import Exchange, Responder
from icebus.bus._requests.asking import Answer, Requester
from icebus.bus._roles import check_role
from icebus.bus._single_run import SingleRun
from icebus.bus._state_publisher import StatePublisher
from icebus.bus._subscriptions import (
    FromComponents,
    FromSenders,
    FromUsers,
    FromWorkers,
    Subscription,
)
from icebus.bus._waiting import wait_for

__all__ = [
    "RECONNECT_MAX",
    "Allowance",
    "Answer",
    "BrokerAddress",
    "Bucket",
    "Bus",
    "CertificateFiles",
    "Credentials",
    "Exchange",
    "FromComponents",
    "FromSenders",
    "FromUsers",
    "FromWorkers",
    "Glance",
    "Incoming",
    "Interrupted",
    "Interruption",
    "Invitation",
    "LogPublisher",
    "Requester",
    "Responder",
    "SingleRun",
    "StatePublisher",
    "Subscription",
    "Turns",
    "Will",
    "check_role",
    "check_root",
    "client_context",
    "glance",
    "interruptible",
    "new_client_id",
    "sleep",
    "wait_for",
    "wait_on",
]
