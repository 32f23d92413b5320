"""The scheduler under every order of its input, and the promises of the queue."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.control.decide.limits import Limit, Limits
from icebus.control.decide.obstacles import Candidate, Obstacle, Wanted
from icebus.control.decide.scheduler import AGEING, Plan, QueuedRequest, free_for, plan
from icebus.schemas.errors import DeviceUnavailable, LimitExceeded, NotEnoughDevices
from icebus.schemas.selectors import parse

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WORKERS = ["w1", "w2", "w3"]
SUITABLE = ("icebus", "pulse_count")
FIRMWARE = dict.fromkeys(WORKERS, SUITABLE)
OF_A_DEVICE = [each for each in Obstacle if each is not Obstacle.HELD_BACK]

devices = st.builds(
    Candidate,
    serial=st.sampled_from("abcdefghij"),
    worker=st.sampled_from(WORKERS),
    firmware=st.sampled_from(["icebus", "pulse_count", "default"]),
    labels=st.fixed_dictionaries({"rack": st.sampled_from("ab")}),
    obstacle=st.sampled_from([None, None, None, *OF_A_DEVICE]),
    why=st.just("in the way"),
    free_at=st.none() | st.integers(0, 600).map(lambda s: NOON + timedelta(seconds=s)),
)
farms = st.lists(devices, unique_by=lambda each: each.serial, max_size=8)
selectors = st.sampled_from(["", "rack=a", "rack!=a"]).map(parse)
wishes = st.one_of(
    st.builds(
        Wanted,
        kind=st.just("pulsecount"),
        firmware=st.sampled_from([FIRMWARE, {"w1": SUITABLE}]),
        count=st.integers(1, 6),
        selector=selectors,
    ),
    st.builds(
        Wanted,
        kind=st.just("pulsecount"),
        firmware=st.just(FIRMWARE),
        serials=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=4, unique=True).map(
            tuple
        ),
    ),
)
requests = st.builds(
    QueuedRequest,
    id=st.sampled_from("pqrstuvw"),
    user=st.sampled_from(["alice", "bob"]),
    wanted=wishes,
    since=st.integers(0, 300).map(lambda s: NOON - timedelta(seconds=s)),
    duration=st.integers(1, 600).map(lambda s: timedelta(seconds=s)),
    priority=st.integers(-3, 3),
)
queues = st.lists(requests, unique_by=lambda each: each.id, max_size=6)
limits = st.sampled_from(
    [Limits(), Limits(users={"alice": Limit(devices=3)}), Limits(Limit(devices=2))]
)


def one(farm: list[Candidate], wanted: Wanted, *before: QueuedRequest) -> Plan:
    """What a single request of now leads to, behind others."""
    waiting = QueuedRequest("new", "carol", wanted, NOON, HOUR)
    return plan(farm, [*before, waiting], NOON, {}, Limits())


def given_to(found: Plan, name: str = "new") -> tuple[str, ...]:
    return next((each.serials for each in found.grants if each.request.id == name), ())


def wanting(count: int, selector: str = "") -> Wanted:
    return Wanted("pulsecount", FIRMWARE, count=count, selector=parse(selector))


def waits(name: str, wanted: Wanted, minutes: float = 1, priority: int = 0) -> QueuedRequest:
    since = NOON - timedelta(minutes=minutes)
    return QueuedRequest(name, "bob", wanted, since, HOUR, priority)


# --- for any farm and any queue -------------------------------------------------------------------


@settings(max_examples=100)
@given(farm=farms, queue=queues, limits=limits, data=st.data())
def test_given_any_order_of_the_input_then_the_plan_is_the_same(
    farm: list[Candidate], queue: list[QueuedRequest], limits: Limits, data: st.DataObject
) -> None:
    first = plan(farm, queue, NOON, {}, limits)
    again = plan(
        data.draw(st.permutations(farm)), data.draw(st.permutations(queue)), NOON, {}, limits
    )

    assert again.grants == first.grants
    assert again.held_back == first.held_back
    assert {name: (p.position, p.reason, p.estimate) for name, p in again.places.items()} == {
        name: (p.position, p.reason, p.estimate) for name, p in first.places.items()
    }


@settings(max_examples=100)
@given(farm=farms, queue=queues, limits=limits)
def test_then_each_gets_all_or_nothing_and_no_device_is_given_twice(
    farm: list[Candidate], queue: list[QueuedRequest], limits: Limits
) -> None:
    found = plan(farm, queue, NOON, {}, limits)

    given = Counter(serial for each in found.grants for serial in each.serials)
    assert all(count == 1 for count in given.values())
    for each in found.grants:
        assert len(each.serials) == each.request.wanted.number
        assert set(each.serials) <= set(free_for(farm, each.request.wanted))
        assert each.request.wanted.count is not None or set(each.serials) == set(
            each.request.wanted.serials
        )
    granted = {each.request.id for each in found.grants}
    assert granted.isdisjoint(found.places)
    assert granted | set(found.places) == {each.id for each in queue}
    assert sorted(place.position for place in found.places.values()) == list(
        range(1, len(found.places) + 1)
    )
    assert all(place.reason for place in found.places.values())


@settings(max_examples=100)
@given(farm=farms, queue=queues, limits=limits, held=st.integers(0, 3))
def test_then_nobody_gets_more_than_his_limit(
    farm: list[Candidate], queue: list[QueuedRequest], limits: Limits, held: int
) -> None:
    found = plan(farm, queue, NOON, {"alice": held}, limits)

    got = Counter({"alice": held})
    for each in found.grants:
        got[each.request.user] += len(each.serials)
    for user in {each.request.user for each in found.grants}:
        limit = limits.of(user).devices
        assert limit is None or got[user] <= limit


@settings(max_examples=100)
@given(farm=farms, queue=queues, limits=limits)
def test_then_nobody_is_passed_by_one_that_takes_what_he_could_use(
    farm: list[Candidate], queue: list[QueuedRequest], limits: Limits
) -> None:
    """But those who want more than works, or than they may have."""
    found = plan(farm, queue, NOON, {}, limits)

    passing = (None, Obstacle.HELD, Obstacle.BUSY)
    for each in queue:
        place = found.places.get(each.id)
        if place is None or isinstance(place.refusal, LimitExceeded):
            continue
        usable = [
            device
            for device in farm
            if device.obstacle in passing
            and free_for(
                [Candidate(device.serial, device.worker, labels=device.labels)], each.wanted
            )
        ]
        if len(usable) < each.wanted.number:
            assert place.estimate is None
            continue
        assert place.estimate is not None
        theirs = {device.serial for device in usable}
        for grant in found.grants:
            if grant.request.queue_order > each.queue_order:
                assert theirs.isdisjoint(grant.serials)


@settings(max_examples=100)
@given(farm=farms, queue=queues, data=st.data())
def test_given_that_devices_come_free_in_the_end_then_everybody_is_served(
    farm: list[Candidate], queue: list[QueuedRequest], data: st.DataObject
) -> None:
    """Also while others keep coming with the highest priority."""
    sound = {each.serial: Candidate(each.serial, each.worker, labels=each.labels) for each in farm}
    queue = [
        each for each in queue if len(free_for(sound.values(), each.wanted)) >= each.wanted.number
    ]
    busy: dict[str, datetime] = {}
    now, served, newcomers = NOON, set[str](), 0
    first = {each.id for each in queue}
    longest = max((each.duration for each in queue), default=HOUR) + 20 * AGEING
    while not first <= served:
        assert now < NOON + 40 * longest
        if newcomers < 40:
            newcomers += 1
            queue.append(
                QueuedRequest(
                    f"n{newcomers}", "eve", data.draw(wishes), now, 2 * AGEING, priority=3
                )
            )
        busy = {serial: until for serial, until in busy.items() if until > now}
        standing = [
            Candidate(each.serial, each.worker, labels=each.labels, obstacle=Obstacle.HELD)
            if each.serial in busy
            else each
            for each in sound.values()
        ]
        for grant in plan(standing, queue, now, {}, Limits()).grants:
            served.add(grant.request.id)
            busy |= dict.fromkeys(grant.serials, now + grant.request.duration)
        queue = [each for each in queue if each.id not in served]
        now += AGEING


@settings(max_examples=100)
@given(priorities=st.tuples(st.integers(-100, 100), st.integers(-100, 100)))
def test_given_two_that_wait_then_their_order_never_changes_and_waiting_makes_up_for_priority(
    priorities: tuple[int, int],
) -> None:
    mine, yours = priorities
    ahead = timedelta(seconds=1) + max(0, yours - mine) * AGEING
    early = QueuedRequest("a", "alice", wanting(1), NOON - ahead, HOUR, mine)
    late = QueuedRequest("b", "bob", wanting(1), NOON, HOUR, yours)

    for later in (timedelta(0), HOUR):
        found = plan([Candidate("d", "w1")], [late, early], NOON + later, {}, Limits())
        assert given_to(found, "a") == ("d",)


# --- the choice -----------------------------------------------------------------------------------


@settings(max_examples=100)
@given(farm=farms, count=st.integers(1, 8))
def test_when_given_by_count_then_a_device_is_flashed_only_when_no_warm_one_is_left(
    farm: list[Candidate], count: int
) -> None:
    chosen = given_to(one(farm, wanting(count)))

    warm = {each.serial for each in farm if not each.obstacle and each.firmware in SUITABLE}
    assert not chosen or len(warm & set(chosen)) == min(count, len(warm))


@settings(max_examples=100)
@given(sizes=st.tuples(*[st.integers(0, 5)] * 3), data=st.data())
def test_when_given_by_count_then_workers_share_as_evenly_as_they_can(
    sizes: tuple[int, ...], data: st.DataObject
) -> None:
    farm = [
        Candidate(f"{worker}-{number}", worker)
        for worker, size in zip(WORKERS, sizes, strict=True)
        for number in range(size)
    ]
    if not farm:
        return
    count = data.draw(st.integers(1, len(farm)))

    taken = Counter(serial[:2] for serial in given_to(one(farm, wanting(count))))

    most = max(taken.values())
    for worker, size in zip(WORKERS, sizes, strict=True):
        assert taken[worker] >= min(size, most - 1)


def test_when_named_then_exactly_those_are_given() -> None:
    farm = [Candidate("b", "w1"), Candidate("a", "w1"), Candidate("c", "w1")]

    assert given_to(one(farm, Wanted("pulsecount", FIRMWARE, serials=("c", "a")))) == ("a", "c")


# --- what those who wait are told -----------------------------------------------------------------


def test_given_a_large_request_that_waits_then_small_ones_pass_only_with_what_it_cannot_use() -> (
    None
):
    farm = [
        Candidate("a", "w1", labels={"rack": "a"}, obstacle=Obstacle.HELD, free_at=NOON + HOUR),
        Candidate("b", "w1", labels={"rack": "a"}),
        Candidate("z", "w1", labels={"rack": "z"}),
    ]
    large = waits("large", wanting(2, "rack=a"))

    refused = one(farm, wanting(1, "rack=a"), large)
    passed = one(farm, wanting(1), large)

    assert refused.held_back == {"b"}
    place = refused.places["new"]
    assert (place.position, place.estimate) == (2, NOON + 2 * HOUR)
    assert refused.places["large"].estimate == NOON + HOUR
    assert isinstance(place.refusal, NotEnoughDevices)
    assert "1 kept for those who wait before" in place.refusal.message
    assert "in the queue" in place.refusal.message
    assert given_to(passed) == ("z",)


def test_given_a_request_for_more_than_works_then_it_keeps_nothing() -> None:
    farm = [Candidate("a", "w1"), Candidate("b", "w1", obstacle=Obstacle.BROKEN, why="no answer")]

    found = one(farm, wanting(1), waits("large", wanting(2)))

    assert given_to(found) == ("a",)
    assert found.places["large"].reason == "2 wanted, 1 free (1 broken)"
    assert found.places["large"].estimate is None


def test_given_a_user_at_the_limit_then_he_waits_with_that_reason_and_keeps_nothing() -> None:
    farm = [Candidate("a", "w1"), Candidate("b", "w1")]
    bobs = waits("bobs", wanting(1))
    new = QueuedRequest("new", "carol", wanting(2), NOON, HOUR)

    found = plan(farm, [bobs, new], NOON, {"bob": 3}, Limits(Limit(devices=3)))

    assert given_to(found) == ("a", "b")
    assert found.places["bobs"].reason == "bob holds 3 devices and wants 1 more, but may hold 3"


def test_given_one_that_waits_for_a_device_then_it_is_told_who_holds_it_and_until_when() -> None:
    held = Candidate(
        "b", "w1", obstacle=Obstacle.HELD, why="held", holder="bob", free_at=NOON + HOUR
    )
    named = Wanted("pulsecount", FIRMWARE, serials=("a", "b"))

    place = one([Candidate("a", "w1"), held], named).places["new"]

    assert place.reason == "b is held by bob"
    assert place.estimate == NOON + HOUR
    assert isinstance(place.refusal, DeviceUnavailable)
    assert "b is held by bob until 2030-01-01T13:00:00" in place.refusal.message


def test_given_a_failed_device_then_its_reservation_goes_before_the_queue() -> None:
    replacing = QueuedRequest("old", "alice", wanting(1), NOON, HOUR, -5, replaces="x")

    found = one([Candidate("a", "w1")], wanting(1), waits("bobs", wanting(1)), replacing)

    assert [(each.request.id, each.serials) for each in found.grants] == [("old", ("a",))]
    assert set(found.places) == {"bobs", "new"}


@pytest.mark.parametrize(
    ("farm", "remedy"),
    [
        ([], "start a worker"),
        ([Candidate("a", "w1")], "reserve 1"),
        ([Candidate("a", "w1", obstacle=Obstacle.HELD)], "in the queue"),
        ([Candidate("a", "w1", obstacle=Obstacle.BROKEN)], "icebus devices"),
    ],
)
def test_when_there_are_not_enough_then_the_refusal_names_the_remedy(
    farm: list[Candidate], remedy: str
) -> None:
    refusal = one(farm, wanting(2)).places["new"].refusal

    assert isinstance(refusal, NotEnoughDevices)
    assert remedy in refusal.message
