"""The allocator, under every order of its input."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.control.scheduler import Candidate, Obstacle, Wanted, allocate
from icebus.schemas.errors import DeviceUnavailable, NotEnoughDevices, UnknownDevice

WORKERS = ["w1", "w2", "w3"]

farms = st.lists(
    st.builds(
        Candidate,
        serial=st.text("abcdef", min_size=1, max_size=4),
        worker=st.sampled_from(WORKERS),
        warm=st.booleans(),
        obstacle=st.sampled_from([None, None, None, *Obstacle]),
        why=st.just("in the way"),
    ),
    unique_by=lambda each: each.serial,
    max_size=12,
)


def free(farm: list[Candidate]) -> list[Candidate]:
    return [each for each in farm if each.obstacle is None]


@given(farm=farms, count=st.integers(1, 12), data=st.data())
def test_given_any_order_of_devices_when_allocated_by_count_then_the_choice_is_the_same(
    farm: list[Candidate], count: int, data: st.DataObject
) -> None:
    wanted = Wanted("pulsecount", count=count)
    shuffled = data.draw(st.permutations(farm))
    if len(free(farm)) < count:
        for each in (farm, shuffled):
            with pytest.raises(NotEnoughDevices):
                allocate(each, wanted)
        return

    assert allocate(farm, wanted) == allocate(shuffled, wanted)


@given(farm=farms, count=st.integers(1, 12))
def test_when_allocated_by_count_then_all_are_free_and_as_many_as_wanted(
    farm: list[Candidate], count: int
) -> None:
    if len(free(farm)) < count:
        with pytest.raises(NotEnoughDevices) as refused:
            allocate(farm, Wanted("pulsecount", count=count))
        details = refused.value.details
        assert (details["wanted"], details["available"]) == (count, len(free(farm)))
        assert sum(details["others"].values()) == len(farm) - len(free(farm))
        return

    chosen = allocate(farm, Wanted("pulsecount", count=count))

    assert len({each.serial for each in chosen}) == count
    assert all(each.obstacle is None for each in chosen)


@given(farm=farms, count=st.integers(1, 12))
def test_when_allocated_by_count_then_a_device_is_flashed_only_when_no_warm_one_is_left(
    farm: list[Candidate], count: int
) -> None:
    if len(free(farm)) < count:
        return

    chosen = allocate(farm, Wanted("pulsecount", count=count))

    warm = [each for each in free(farm) if each.warm]
    assert sum(each.warm for each in chosen) == min(count, len(warm))


@given(sizes=st.tuples(*[st.integers(0, 5)] * 3), data=st.data())
def test_when_allocated_by_count_then_workers_share_as_evenly_as_they_can(
    sizes: tuple[int, ...], data: st.DataObject
) -> None:
    farm = [
        Candidate(f"{worker}-{number}", worker, warm=True)
        for worker, size in zip(WORKERS, sizes, strict=True)
        for number in range(size)
    ]
    if not farm:
        return
    count = data.draw(st.integers(1, len(farm)))

    taken = Counter(each.worker for each in allocate(farm, Wanted("pulsecount", count=count)))

    most = max(taken.values())
    for worker, size in zip(WORKERS, sizes, strict=True):
        assert taken[worker] >= min(size, most - 1)


def test_when_named_then_exactly_those_are_allocated() -> None:
    farm = [Candidate("b", "w1"), Candidate("a", "w1"), Candidate("c", "w1")]

    chosen = allocate(farm, Wanted("pulsecount", serials=("c", "a")))

    assert [each.serial for each in chosen] == ["a", "c"]


def test_when_an_unknown_one_is_named_then_the_refusal_names_it() -> None:
    with pytest.raises(UnknownDevice, match="ghost") as refused:
        allocate([Candidate("a", "w1")], Wanted("pulsecount", serials=("a", "ghost")))

    assert refused.value.details == {"serials": ["ghost"]}


def test_when_one_of_those_named_is_not_free_then_none_is_allocated_and_it_says_why() -> None:
    held = Candidate("b", "w1", obstacle=Obstacle.HELD, why="held by bob until noon")

    with pytest.raises(DeviceUnavailable, match="b is held by bob until noon"):
        allocate([Candidate("a", "w1"), held], Wanted("pulsecount", serials=("a", "b")))


@pytest.mark.parametrize(
    ("farm", "remedy"),
    [
        ([], "start a worker"),
        ([Candidate("a", "w1")], "reserve 1"),
        ([Candidate("a", "w1", obstacle=Obstacle.HELD)], "wait"),
        ([Candidate("a", "w1", obstacle=Obstacle.BROKEN)], "icebus devices"),
    ],
)
def test_when_there_are_not_enough_then_the_refusal_names_the_remedy(
    farm: list[Candidate], remedy: str
) -> None:
    with pytest.raises(NotEnoughDevices, match=remedy):
        allocate(farm, Wanted("pulsecount", count=2))
