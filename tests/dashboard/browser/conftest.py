"""The page in Debian's Chromium, on a farm that is real but for its boards."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.dashboard.browser.page import FarmPage
from tests.dashboard.browser.simulated_farm import SimulatedFarm

from icebus.broker.embedded import EmbeddedBroker
from icebus.client.dashboard.built import NOT_BUILT, is_built
from icebus.client.dashboard.starting import Dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BOARDS = 6

Open = Callable[..., FarmPage]


def missing(what: str) -> None:
    """Skip on a developer's machine, fail in CI."""
    if os.environ.get("CI"):
        raise RuntimeError(what)
    pytest.skip(what)


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    if not is_built():
        missing(NOT_BUILT)


@pytest.fixture
def boards() -> int:
    """How many boards the farm has."""
    return BOARDS


@pytest.fixture
def farm(
    chromium: Browser, broker: EmbeddedBroker, tmp_path: Path, boards: int
) -> Iterator[SimulatedFarm]:
    """A farm whose boards are all ready."""
    made = SimulatedFarm(broker, tmp_path, boards)
    made.wait_ready("alice")
    yield made
    made.stop()


@pytest.fixture
def open_page(chromium: Browser, farm: SimulatedFarm, dashboard: Dashboard) -> Iterator[Open]:
    """Opens the page, with what a browser is told of the screen; nothing may go wrong in it."""
    opened: list[FarmPage] = []

    def open_one(**screen: Any) -> FarmPage:
        page = FarmPage(chromium.new_context(**screen), dashboard.running.url, farm)
        opened.append(page)
        return page

    yield open_one
    for page in opened:
        page.close()
