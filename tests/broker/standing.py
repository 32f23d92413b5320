"""A standing broker for tests: a directory with TLS on free ports of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import free_port
from icebus.broker.tls.certificates import Listening


def directory_with_tls(path: Path, people: Iterable[Principal]) -> BrokerDirectory:
    """The directory of a broker that does not run yet."""
    made = BrokerDirectory(path)
    tls = Listening(
        address="127.0.0.1", port=free_port(), component_port=free_port(), hosts=("localhost",)
    )
    made.configure(Settings(port=free_port(), tls=tls))
    made.add_principals(people)
    return made
