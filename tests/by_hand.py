"""Publishing what the bus would not: any topic, spelt and carried as a test wants it."""

from __future__ import annotations

from concurrent.futures import Future

from icebus.bus import Bus
from icebus.bus._messages import publish_properties


def publish_by_hand(
    bus: Bus,
    topic: str,
    payload: bytes,
    *,
    retain: bool = False,
    response_topic: str | None = None,
    correlation: bytes | None = None,
    properties: dict[str, str] | None = None,
) -> Future[None]:
    """Publish as a program of somebody else's could that connects as the same user."""
    response = None if response_topic is None else bus._root.absolute(response_topic)
    info = bus._client.publish(
        bus._root.absolute(topic),
        payload,
        qos=1,
        retain=retain,
        properties=publish_properties(None, response, correlation, properties),
    )
    future: Future[None] = Future()
    bus._acknowledgements.expect(info.mid, future)
    return future
