"""What every test may ask for: a real broker of its own, and people who know it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import ProgramMissing
from icebus.schemas.topics import Role

PEOPLE = [
    Principal(id="main", role=Role.CONTROL),
    Principal(id="w1", role=Role.WORKER),
    Principal(id="w2", role=Role.WORKER),
    Principal(id="alice", role=Role.USER),
    Principal(id="bob", role=Role.USER),
    Principal(id="eve", role=Role.OBSERVER),
    Principal(id="root", role=Role.ADMIN),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A private Mosquitto that knows ``PEOPLE`` by name."""
    try:
        embedded = EmbeddedBroker(tmp_path / "broker", PEOPLE)
    except ProgramMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.message)
    embedded.start(Deadline.after(10))
    yield embedded
    embedded.stop(Deadline.after(5))
