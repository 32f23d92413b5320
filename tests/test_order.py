"""Heavy modules are spread among the others, and nothing is lost or taken apart."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.order import spread

SIZES = st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=40)


@given(SIZES)
def test_given_any_modules_when_spread_then_all_tests_are_there_and_modules_stay_together(
    sizes: list[tuple[int, bool]],
) -> None:
    modules = [[(place, test) for test in range(size)] for place, (size, _) in enumerate(sizes)]
    heavy = {place for place, (_, is_heavy) in enumerate(sizes) if is_heavy}

    ordered = spread(modules, heavy)

    assert sorted(ordered) == [test for tests in modules for test in tests]
    begins = [place for place, test in ordered if test == 0]
    assert [test for place in begins for test in modules[place]] == ordered
    for kind in (heavy, set(range(len(modules))) - heavy):
        assert [place for place in begins if place in kind] == sorted(kind)


def test_given_heavy_modules_when_spread_then_no_two_begin_together_nor_one_at_the_end() -> None:
    modules = [[place] * 10 for place in range(100)]
    heavy = set(range(90, 100))

    begins = spread(modules, heavy)[::10]

    places = [at for at, place in enumerate(begins) if place in heavy]
    assert all(after - before >= 8 for before, after in pairwise(places))
    assert 80 <= places[-1] < 95
