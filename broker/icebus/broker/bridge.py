"""A site with a Mosquitto of its own, bridged to the farm's broker.

The workers of a site connect to its broker only, and go on measuring while the line is down. What
they say goes up, what they are told comes down; the two never overlap, so that nothing circles.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from icebus.broker.access import filter_of
from icebus.bus import BrokerAddress, CertificateFiles, new_client_id
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Id
from icebus.schemas.topics import AUTHORITY, TOPICS, Role

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


def bridge(upstream: Upstream, root: str, folder: Path) -> str:
    """The lines of ``mosquitto.conf`` that bridge a site's broker to the farm's.

    Args:
        upstream: the farm.
        root: of this broker's topics.
        folder: for the certificates, which Mosquitto reads from files; made if need be.

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
        # Nothing is kept at the farm's broker for a site that is away: see NO_SESSION of workers.
        "cleansession true",
        "local_cleansession false",
        "notifications false",
        "keepalive_interval 10",
        f"restart_timeout {RESTART}",
        *(_tls(upstream, folder) if farm.tls else []),
    ]
    for topic in TOPICS.values():
        if topic is AUTHORITY:
            continue  # the workers here connect to this broker, which has another
        for direction, grants in (("out", topic.writers), ("in", topic.readers)):
            if Role.WORKER in grants:
                filters = {filter_of(topic, grants[Role.WORKER], w) for w in upstream.workers}
                lines += [f"topic {root}/{each} {direction} 1" for each in sorted(filters)]
                break  # what workers write goes up only, though they may read it too
    return "\n".join(lines) + "\n"


def _tls(upstream: Upstream, folder: Path) -> list[str]:
    files = CertificateFiles.write(folder, upstream)
    lines = ["bridge_tls_version tlsv1.2"]
    lines.append(f"bridge_cafile {files.ca}" if files.ca else "bridge_capath /etc/ssl/certs")
    if files.certificate and files.key:
        lines += [f"bridge_certfile {files.certificate}", f"bridge_keyfile {files.key}"]
    return lines
