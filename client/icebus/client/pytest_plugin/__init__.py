"""A pytest plugin: tests on boards of a farm, which are reserved for them and released after.

pytest loads it wherever icebus is installed, for every run of tests, so it imports nothing of the
client before a test asks for one of its fixtures.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from icebus.client.pytest_plugin._farm import Farm
from icebus.client.pytest_plugin._unused import warn_of_unused_markers

if TYPE_CHECKING:
    from icebus.client import MeasuringBoards, MeasuringClient
    from icebus.client.pytest_plugin._request import BoardRequest

__all__ = ["Farm"]

WAIT = 60.0
"""Seconds to stand in the queue: most tests hold their boards for less."""

MARKER = (
    "icebus(count=1, kind='pulsecount', labels={…}, serials=[…], args={…}, wait=…, client=…): "
    "which boards the fixture icebus_boards reserves for the test; a marker of its class or module "
    "says what its own does not"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which farm, and how long to wait there."""
    group = parser.getgroup("icebus", "boards of a farm, for tests that want some")
    group.addoption(
        "--icebus-farm",
        metavar="NAME|URL",
        type=_named,
        help="The farm: its name, a profile's path or mqtt://user:password@host:port; without it "
        "the one that `icebus` itself would use.",
    )
    group.addoption(
        "--icebus-wait",
        metavar="SECONDS",
        type=_seconds,
        default=WAIT,
        help="How long a test waits for boards that others hold (default: %(default)g).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Warn of markers that do nothing."""
    warn_of_unused_markers(config, items)


@pytest.fixture(scope="session")
def icebus_farm(pytestconfig: pytest.Config) -> Farm:
    """The farm that tests run on; where there is none they are skipped, or fail in CI."""
    farm = Farm(pytestconfig.getoption("--icebus-farm"))
    farm.check()
    return farm


@pytest.fixture
def icebus_client(
    icebus_farm: Farm, request: pytest.FixtureRequest
) -> Iterator[MeasuringClient[Any, Any]]:
    """A client of that farm, for the kind that the marker names; what it reserves ends with it."""
    with icebus_farm.client_of(_asked_by(request)) as client:
        yield client


@pytest.fixture
def icebus_boards(
    icebus_client: MeasuringClient[Any, Any], request: pytest.FixtureRequest
) -> Iterator[MeasuringBoards[Any]]:
    """Boards as the marker says, one that counts pulses without; released when the test is over."""
    from icebus.client.pytest_plugin._reserving import reserve

    wait: float = request.config.getoption("--icebus-wait")
    with reserve(icebus_client, _asked_by(request), wait) as boards:
        yield boards


def _asked_by(request: pytest.FixtureRequest) -> BoardRequest:
    from icebus.client.pytest_plugin._request import read_markers
    from icebus.schemas.errors import InvalidRequest

    try:
        return read_markers(request.node.iter_markers("icebus"))
    except InvalidRequest as error:
        told = error.message
    pytest.fail(told, pytrace=False)


def _named(text: str) -> str:
    # Such as a variable that is not set where it should be: no farm is not any farm.
    if not text.strip():
        raise argparse.ArgumentTypeError("names no farm")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds
