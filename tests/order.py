"""In which order modules of tests are begun, where several processes run them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby
from typing import TypeVar

import pytest

LAST = 0.9
"""Part of all other tests that have begun when the last farm comes up: no process shall still have
one while the others have nothing left to do."""

T = TypeVar("T")


def spread(modules: Iterable[list[T]], heavy: Collection[int]) -> list[T]:
    """Tests, those of heavy modules evenly among the others, which keep their order.

    Left to itself, pytest-xdist begins the modules with few tests last. Those are what brings up
    farms: many at once, on a machine that is the busier for it.

    Args:
        modules: each with its tests, which stay together.
        heavy: the places of those that bring up farms.
    """
    listed = list(modules)
    light = sum(len(tests) for place, tests in enumerate(listed) if place not in heavy)
    at: list[tuple[float, list[T]]] = []
    begun = farms = 0
    for place, tests in enumerate(listed):
        if place in heavy:
            at.append((LAST * farms / len(heavy), tests))
            farms += 1
        else:
            at.append((begun / light, tests))
            begun += len(tests)
    return [test for _, tests in sorted(at, key=lambda each: each[0]) for test in tests]


def reorder(items: list[pytest.Item], heavy_folders: Collection[str]) -> None:
    """Put tests into that order, in place.

    Args:
        items: the tests, module after module.
        heavy_folders: whose modules are heavy.
    """
    modules = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    heavy = {
        place
        for place, tests in enumerate(modules)
        if not set(heavy_folders).isdisjoint(tests[0].path.parts)
    }
    items[:] = spread(modules, heavy)
