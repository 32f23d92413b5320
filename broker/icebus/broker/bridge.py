"""A site with a Mosquitto of its own, bridged to the farm's broker.

The workers of a site connect to its broker only, and go on measuring while the line is down. What
they say goes up, what they are told comes down; the two never overlap, so that nothing circles.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from icebus.broker.access import filter_of
from icebus.bus import BrokerAddress, new_client_id
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Id
from icebus.schemas.private_files import make_private_folder, write_private
from icebus.schemas.topics import TOPICS, Role

RESTART = "1 5"
"""Seconds between attempts to reach the farm, from and to, as everybody else waits."""


class Upstream(BaseModel):
    """The farm that a site belongs to.

    Attributes:
        url: of the farm's broker, for the principal that speaks for this site's workers.
        ca: whom to trust to be that broker, as PEM; None for whom the system trusts.
        certificate: which the site is known by there, as PEM; with ``key``.
        key: of the certificate, as PEM.
        workers: whom it speaks for.
        client_id: under which the bridge connects to the farm. Whoever connects under the id of
            another ends that other's connection, so it is random and told to nobody but the
            brokers; it stays, because the farm queues under it while the line is down.
        local_client_id: under which it is known at the site's own broker; likewise.
    """

    model_config = ConfigDict(frozen=True)

    url: str = Field(repr=False)
    ca: str | None = Field(default=None, repr=False)
    certificate: str | None = Field(default=None, repr=False)
    key: str | None = Field(default=None, repr=False)
    workers: tuple[Id, ...] = Field(min_length=1)
    client_id: str = Field(default_factory=lambda: new_client_id("bridge"), repr=False)
    local_client_id: str = Field(default_factory=lambda: new_client_id("local"), repr=False)

    @classmethod
    def at(cls, farm: BrokerAddress, workers: tuple[Id, ...]) -> Upstream:
        """The farm at that address."""
        return cls(
            url=farm.url(),
            ca=farm.ca,
            certificate=farm.certificate,
            key=farm.key,
            workers=workers,
        )

    def replacing(self, before: Upstream | None) -> Upstream:
        """This one; under the ids of the one before if it connects as the same to the same farm."""
        if before is None or _who(before.url) != _who(self.url):
            return self
        return self.model_copy(
            update={"client_id": before.client_id, "local_client_id": before.local_client_id}
        )


def _who(url: str) -> tuple[str, int, str]:
    farm = BrokerAddress.parse(url)
    return farm.host, farm.port, farm.user


class BridgeFiles:
    """Where a bridge's certificates are kept, which Mosquitto reads from files.

    Args:
        folder: made when there is something to put into it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, upstream: Upstream) -> list[str]:
        """Write them; returns the lines of ``mosquitto.conf`` that name them."""
        lines = ["bridge_tls_version tlsv1.2"]
        if upstream.ca is None:
            lines.append("bridge_capath /etc/ssl/certs")
        for option, name, text in (
            ("bridge_cafile", "trusted.pem", upstream.ca),
            ("bridge_certfile", "certificate.pem", upstream.certificate),
            ("bridge_keyfile", "certificate.key", upstream.key),
        ):
            if text is not None:
                make_private_folder(self._folder)
                write_private(self._folder / name, text)
                lines.append(f"{option} {self._folder / name}")
        return lines


def bridge(upstream: Upstream, root: str, files: BridgeFiles) -> str:
    """The lines of ``mosquitto.conf`` that bridge a site's broker to the farm's.

    Raises:
        InvalidRequest: the farm uses another root: response topics stand in messages, where no
            bridge would rewrite them.
    """
    farm = BrokerAddress.parse(upstream.url)
    if farm.root != root:
        raise InvalidRequest(
            f"the farm's topics begin with {farm.root}, this broker's with {root}; "
            "configure both with the same --root"
        )
    lines = [
        f"connection {farm.user}",
        f"address {farm.host}:{farm.port}",
        "bridge_protocol_version mqttv50",
        f"remote_clientid {upstream.client_id}",
        f"local_clientid {upstream.local_client_id}",
        f"remote_username {farm.logs_in_as}",
        *([f"remote_password {farm.password}"] if farm.password else []),
        # What was said while the line was down is said when it is up again.
        "cleansession false",
        "notifications false",
        "keepalive_interval 10",
        f"restart_timeout {RESTART}",
        *(files.write(upstream) if farm.tls else []),
    ]
    for topic in TOPICS.values():
        for direction, grants in (("out", topic.writers), ("in", topic.readers)):
            if Role.WORKER in grants:
                filters = {filter_of(topic, grants[Role.WORKER], w) for w in upstream.workers}
                lines += [f"topic {root}/{each} {direction} 1" for each in sorted(filters)]
                break  # what workers write goes up only, though they may read it too
    return "\n".join(lines) + "\n"
