"""What every test may ask for: a real broker of its own, and people who know it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from tests import containers
from tests import postgresql as postgresql_server
from tests.order import reorder

from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.mosquitto import find_program
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import ProgramMissing
from icebus.schemas.programs.logs import BoundedHandler
from icebus.schemas.topics import Role

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile(
    "icebus",
    deadline=None,
    # Some models want one field or the other, which few fillings meet.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    max_examples=15,
    # CI says whether a change is good, so it must say the same of the same code. New examples are
    # for those who can look into what they find.
    derandomize=bool(os.environ.get("CI")),
)
settings.register_profile("quick", settings.get_profile("icebus"), max_examples=5)
settings.load_profile("icebus")

# Whoever runs the tests in the background or under nohup has these ignored, and all that tests
# start would inherit it: what people interrupt must be interruptible.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

PROCESSES = frozenset({"broker_class", "mosquitto", "postgresql"})
"""Fixtures that start other programs, directly or by others."""

WHOLE_FARMS = frozenset({"deploy", "examples", "farm", "faults"})
"""Folders whose tests bring up farms, or build images."""


FARMS_AMONG_OTHERS = frozenset({*WHOLE_FARMS, "browser", "docs"})
"""Folders whose tests keep a machine busy for seconds each."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--quick``: the tests that a contributor runs at every save."""
    parser.addoption(
        "--quick", action="store_true", help="Only tests that start no program and are quick."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tried with fewer examples where time counts."""
    if config.getoption("--quick"):
        settings.load_profile("quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--quick``, leave out what starts programs or is marked as slow.

    On several processes, those that bring up farms begin evenly among the others.
    """
    if os.environ.get("PYTEST_XDIST_WORKER"):
        reorder(items, FARMS_AMONG_OTHERS)
    if not config.getoption("--quick"):
        return
    slow = [item for item in items if _is_slow(item)]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if not _is_slow(item)]


def _is_slow(item: pytest.Item) -> bool:
    return (
        not PROCESSES.isdisjoint(getattr(item, "fixturenames", ()))
        or "[postgresql" in item.name
        or item.path.parent.name in WHOLE_FARMS
        or item.get_closest_marker("slow") is not None
    )


PEOPLE = [
    Principal(id="broker", role=Role.BROKER),
    Principal(id="main", role=Role.CONTROL),
    Principal(id="w1", role=Role.WORKER),
    Principal(id="w2", role=Role.WORKER),
    Principal(id="alice", role=Role.USER),
    Principal(id="bob", role=Role.USER),
    Principal(id="eve", role=Role.OBSERVER),
    Principal(id="root", role=Role.ADMIN),
]


@pytest.fixture(autouse=True)
def log_ends_with_the_test() -> Iterator[None]:
    """What a command that ran in this process logs to must not be logged to by later tests.

    Such a command's stderr is closed when it has ended; its handler would complain into the stderr
    of whatever test runs next.
    """
    root = logging.getLogger()
    level, crash, end_of_thread = root.level, sys.excepthook, threading.excepthook
    yield
    for handler in root.handlers[:]:
        if isinstance(handler, BoundedHandler):
            root.removeHandler(handler)
            # It may have a count to say; its own stream is closed, which `setStream` would flush.
            handler.stream = sys.stderr
            handler.close()
    root.setLevel(level)
    sys.excepthook, threading.excepthook = crash, end_of_thread


@pytest.fixture(scope="session")
def broker_class() -> type[EmbeddedBroker]:
    """How to run a Mosquitto here: the local program, else a container, else not at all.

    Without either, tests that need one are skipped on a developer's machine and fail in CI.
    """
    try:
        find_program("mosquitto")
    except ProgramMissing as missing:
        if containers.engine_answers():
            return containers.ContainerBroker
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


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgresql_server.PostgresServer]:
    """One server for all tests; each has a database of its own."""
    yield from postgresql_server.serve()


@pytest.fixture
def broker(tmp_path: Path, broker_class: type[EmbeddedBroker]) -> Iterator[EmbeddedBroker]:
    """A private Mosquitto that knows ``PEOPLE`` by name."""
    embedded = broker_class(tmp_path / "broker", PEOPLE)
    embedded.start(Deadline.after(10))
    yield embedded
    embedded.stop(Deadline.after(5))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's browser: Playwright's own can't be fetched everywhere.

    No longer than for a module, for while Playwright runs no other test can run an event loop.
    """
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        program = None
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("no browser is installed: script/bootstrap --browser")
        pytest.skip("no browser is installed: script/bootstrap --browser")
    with sync_playwright() as playwright:
        # Its sandbox needs a user who is not root, or namespaces that containers don't have.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
