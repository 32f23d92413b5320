"""What every test may ask for: a real broker of its own, and people who know it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from icebus.broker.access import Principal, find_program
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


@pytest.fixture(scope="session")
def broker_class() -> type[EmbeddedBroker]:
    """How to run a Mosquitto here: the local program, else a container, else not at all.

    Without either, tests that need one are skipped on a developer's machine and fail in CI.
    """
    try:
        find_program("mosquitto")
    except ProgramMissing as missing:
        containers = _containers()
        if containers.engine_answers():
            made: type[EmbeddedBroker] = containers.ContainerBroker
            return made
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{missing.message}; no Docker engine answers either")
    return EmbeddedBroker


@pytest.fixture
def mosquitto() -> None:
    """For tests of the embedded broker's own process: Mosquitto itself must be here."""
    try:
        find_program("mosquitto")
    except ProgramMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.message)


@pytest.fixture
def broker(tmp_path: Path, broker_class: type[EmbeddedBroker]) -> Iterator[EmbeddedBroker]:
    """A private Mosquitto that knows ``PEOPLE`` by name."""
    embedded = broker_class(tmp_path / "broker", PEOPLE)
    embedded.start(Deadline.after(10))
    yield embedded
    embedded.stop(Deadline.after(5))


def _containers() -> ModuleType:
    # Tests are no package, so that theirs is the one module that has to be loaded by its path.
    path = Path(__file__).with_name("containers.py")
    spec = importlib.util.spec_from_file_location("icebus_test_containers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
