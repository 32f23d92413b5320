"""Markers that ask for boards where no test takes them: they would do nothing, in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import pytest

FIXTURES = frozenset({"icebus_boards", "icebus_client", "icebus_farm"})
"""By one of these a test takes what its markers ask for."""


class UnusedMarkerWarning(pytest.PytestWarning):
    """A marker asks for boards, and no test takes them."""


def warn_of_unused_markers(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Warn of each marker that counts for no test which takes boards.

    Args:
        config: of the run.
        items: all tests that were found, before any is left out.
    """
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        return  # each process of pytest-xdist finds the same tests
    marked: dict[pytest.Item | pytest.Collector, bool] = {}
    for item in items:
        takes = not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        for node in _marked_nodes(item):
            marked[node] = marked.get(node, False) or takes
    # Of a class or module of which some tests were chosen nobody knows what the others take.
    chosen = any("::" in each for each in config.args)
    for node, used in marked.items():
        if used or (chosen and not isinstance(node, pytest.Item)):
            continue
        who = (
            "the test takes none"
            if isinstance(node, pytest.Item)
            else "no test that stands there takes one"
        )
        node.warn(
            UnusedMarkerWarning(
                f"@pytest.mark.icebus of {node.name} reserves nothing: {who} of the fixtures "
                f"{', '.join(sorted(FIXTURES))}; add icebus_boards to the arguments of a test, or "
                '@pytest.mark.usefixtures("icebus_boards")'
            )
        )


def _marked_nodes(item: pytest.Item) -> Iterator[pytest.Item | pytest.Collector]:
    """The test, and what it stands in, where a marker stands at just that."""
    for node in item.listchain():
        if isinstance(node, (pytest.Item, pytest.Collector)) and any(
            mark.name == "icebus" for mark in node.own_markers
        ):
            yield node
