"""The queue of a farm that lives: requests, devices and time come and go, and `plan` alone decides.

The farm is data. After everything that happens to it, whatever can be given is given, and each plan
is gone through in the order of the queue: what each one gets, keeps and is told must follow from
those before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from icebus.control.decide.limits import Limit, Limits
from icebus.control.decide.obstacles import Candidate, Obstacle, Wanted
from icebus.control.decide.scheduler import AGEING, Place, Plan, QueuedRequest, plan
from icebus.schemas.errors import DeviceUnavailable, LimitExceeded, NotEnoughDevices
from icebus.schemas.selectors import parse

pytestmark = pytest.mark.slow

OWNER = {"a": "w1", "b": "w1", "c": "w1", "d": "w2", "e": "w2", "f": "w3"}
RACK = {"a": "x", "b": "x", "c": "y", "d": "x", "e": "y", "f": "y"}
SUITABLE = ("pulse_count",)
EVERYWHERE = dict.fromkeys(OWNER.values(), SUITABLE)
LIMITS = Limits(users={"alice": Limit(devices=3), "bob": Limit(devices=1)})
HIGHEST = 3
MINUTE = timedelta(minutes=1)
LONGEST = 5 * MINUTE
PASSING = (None, Obstacle.HELD, Obstacle.BUSY)

serials = st.sampled_from(sorted(OWNER))
users = st.sampled_from(["alice", "bob", "carol"])
several = st.lists(serials, min_size=1, max_size=3, unique=True)
wishes = st.one_of(
    st.builds(
        Wanted,
        kind=st.just("pulsecount"),
        firmware=st.sampled_from([EVERYWHERE, EVERYWHERE, {"w1": SUITABLE}]),
        count=st.integers(1, len(OWNER)),
        selector=st.sampled_from(["", "", "rack=x", "rack!=x"]).map(parse),
    ),
    st.builds(
        Wanted,
        kind=st.just("pulsecount"),
        firmware=st.just(EVERYWHERE),
        serials=several.map(tuple),
    ),
)
HAPPENINGS = [
    *("ask", "ask", "ask", "leave", "release"),
    *("fail", "repair", "drain"),
    *("time_goes_by", "time_goes_by", "a_crowd_comes"),
]
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass
class Board:
    """A device, and what stands in its way."""

    trouble: Obstacle | None = None
    holder: str | None = None
    resting: bool = False


@dataclass
class Running:
    """A reservation that got its devices."""

    asked: QueuedRequest
    until: datetime
    replace: bool


def fits(serial: str, wanted: Wanted) -> bool:
    """Whether a request could use a device, free or not."""
    if wanted.count is None and serial not in wanted.serials:
        return False
    return OWNER[serial] in wanted.firmware and wanted.selector.matches({"rack": RACK[serial]})


def alone(waiting: QueuedRequest) -> bool:
    """Whether a request could be served if nobody else wanted anything."""
    limit = LIMITS.of(waiting.user).devices
    number = waiting.wanted.number
    return sum(fits(serial, waiting.wanted) for serial in OWNER) >= number and (
        limit is None or number <= limit
    )


class Queue(RuleBasedStateMachine):
    """A farm of six boards, and people who want them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2030, 1, 1, 12, tzinfo=UTC)
        self.boards = {serial: Board() for serial in OWNER}
        self.drained: set[str] = set()
        self.queue: list[QueuedRequest] = []
        self.replacing: set[str] = set()
        self.running: dict[str, Running] = {}
        self.names = 0

    # One rule, for hypothesis leaves rules out at random, and what is interesting takes them all.

    @rule(what=st.sampled_from(HAPPENINGS), data=st.data())
    def something_happens(self, what: str, data: st.DataObject) -> None:
        getattr(self, what)(data.draw)
        self.settle()

    def a_crowd_comes(self, draw: Draw) -> None:
        """However many come with the highest priority: who waits is served, and in time.

        Of those who came later, only such pass as come before the other's waiting makes up for
        their priority. From then on those left are first. Until one of them is served nothing is
        given to their users, so after the longest of all reservations none of these is at a limit;
        from then on the first of those left keeps all it can use, which another longest of all
        reservations sets free.
        """
        greedy = draw(st.booleans())
        for board in self.boards.values():
            board.trouble = None
        self.drained.clear()
        left = {each.id for each in self.queue if alone(each)}
        passed = [
            each.since + (HIGHEST - each.priority) * AGEING for each in self.queue if alone(each)
        ]
        overtaken = max(passed, default=self.now)
        until = None
        crowd = 0
        while left:
            if until is None and self.now >= overtaken:
                left = {each.id for each in self.queue if alone(each)}
                # A minute more until what ends is seen to, and one until its boards are ready.
                until = self.now + len(left) * 2 * (LONGEST + 2 * MINUTE)
            assert until is None or self.now < until
            waiting = sum(each.user == "crowd" for each in self.queue)
            for _ in range(2 - waiting if greedy else len(OWNER) - waiting):
                crowd += 1
                wanted = Wanted("pulsecount", EVERYWHERE, count=len(OWNER) if greedy else 1)
                self.stand("crowd", wanted, HIGHEST, (1 + crowd % 3) * MINUTE, replace=False)
            self.settle()
            self.tick()
            left &= {each.id for each in self.queue}
        self.queue = [each for each in self.queue if each.user != "crowd"]

    # --- people -----------------------------------------------------------------------------------

    def ask(self, draw: Draw) -> None:
        for user in draw(st.lists(users, min_size=1, max_size=3)):
            duration = draw(st.integers(1, LONGEST // MINUTE)) * MINUTE
            priority = draw(st.integers(-HIGHEST, HIGHEST))
            self.stand(user, draw(wishes), priority, duration, replace=draw(st.booleans()))

    def stand(
        self, user: str, wanted: Wanted, priority: int, duration: timedelta, *, replace: bool
    ) -> None:
        self.names += 1
        # What comes at the same moment is told apart by its name, which says nothing of its turn.
        name = f"{self.names * 7 % 1000:03}-{self.names}"
        self.queue.append(QueuedRequest(name, user, wanted, self.now, duration, priority))
        if replace:
            self.replacing.add(name)

    def leave(self, draw: Draw) -> None:
        """Somebody is tired of waiting."""
        if self.queue:
            del self.queue[draw(st.integers(0, len(self.queue) - 1))]

    def release(self, draw: Draw) -> None:
        """Boards are given back before their time."""
        for serial in draw(several):
            self.free(serial)

    def free(self, serial: str) -> None:
        board = self.boards[serial]
        board.resting |= board.holder is not None
        board.holder = None
        holders = {each.holder for each in self.boards.values()}
        self.running = {name: each for name, each in self.running.items() if name in holders}

    # --- boards and time --------------------------------------------------------------------------

    def fail(self, draw: Draw) -> None:
        trouble = draw(st.sampled_from([Obstacle.BROKEN, Obstacle.ABSENT, Obstacle.QUARANTINED]))
        for serial in draw(several):
            self.boards[serial].trouble = trouble

    def repair(self, draw: Draw) -> None:
        for serial in draw(several):
            self.boards[serial].trouble = None

    def drain(self, draw: Draw) -> None:
        """A worker takes no new reservations any more, or takes them again."""
        self.drained ^= {draw(st.sampled_from(sorted(set(OWNER.values()))))}

    def time_goes_by(self, draw: Draw) -> None:
        for _ in range(draw(st.integers(1, 3))):
            self.tick()

    def tick(self) -> None:
        self.now += MINUTE
        for board in self.boards.values():
            board.resting = False
        self.settle()
        # Seen to a minute late: the queue may be looked at before.
        over = {name for name, each in self.running.items() if each.until < self.now}
        for serial, board in self.boards.items():
            if board.holder in over:
                self.free(serial)
        self.settle()

    # --- what is given ----------------------------------------------------------------------------

    def settle(self) -> None:
        """Give all that can be had, as control does after every change."""
        while True:
            farm = [self.candidate(serial) for serial in self.boards]
            failed = [
                self.replacement(self.running[board.holder].asked, serial)
                for serial, board in self.boards.items()
                if board.trouble is not None and board.holder in self.replacing
            ]
            queue = [*self.queue, *failed]
            held = Counter(
                self.running[board.holder].asked.user
                for board in self.boards.values()
                if board.holder is not None
            )
            found = plan(farm, queue, self.now, held, LIMITS)
            again = plan(reversed(farm), reversed(queue), self.now, held, LIMITS)
            assert (again.grants, again.held_back) == (found.grants, found.held_back)
            assert told(again) == told(found)
            self.check(found, farm, queue, held)
            if not found.grants:
                return
            for grant in found.grants:
                asked = grant.request
                if asked.replaces is not None:
                    self.boards[asked.replaces].holder = None
                else:
                    self.queue.remove(asked)
                    until = self.now + asked.duration
                    self.running[asked.id] = Running(asked, until, asked.id in self.replacing)
                for serial in grant.serials:
                    self.boards[serial].holder = asked.id

    def candidate(self, serial: str) -> Candidate:
        board = self.boards[serial]
        running = self.running[board.holder] if board.holder is not None else None
        obstacle = Obstacle.DRAINING if OWNER[serial] in self.drained else board.trouble
        if obstacle is None and running is not None:
            obstacle = Obstacle.HELD
        if obstacle is None and board.resting:
            obstacle = Obstacle.BUSY
        return Candidate(
            serial,
            OWNER[serial],
            labels={"rack": RACK[serial]},
            obstacle=obstacle,
            why="in the way",
            holder=running.asked.user if running is not None else None,
            free_at=running.until if running is not None else None,
        )

    def replacement(self, asked: QueuedRequest, serial: str) -> QueuedRequest:
        wanted = Wanted(asked.wanted.kind, asked.wanted.firmware, 1, (), asked.wanted.selector)
        return QueuedRequest(
            asked.id,
            asked.user,
            wanted,
            asked.since,
            asked.duration,
            asked.priority,
            replaces=serial,
        )

    # --- what follows from the queue --------------------------------------------------------------

    def check(
        self,
        found: Plan,
        farm: Sequence[Candidate],
        queue: Sequence[QueuedRequest],
        held: Counter[str],
    ) -> None:
        """Each has all it wants or nothing, of what those before have left."""
        grants = {(each.request.id, each.request.replaces): each.serials for each in found.grants}
        assert len(grants) == len(found.grants)
        users, taken, kept, positions = Counter(held), set[str](), set[str](), 0
        free_at = {each.serial: max(self.now, each.free_at or self.now) for each in farm}
        for each in sorted(queue, key=self.turn):
            number, limit = each.wanted.number, LIMITS.of(each.user).devices
            usable = {one.serial: one for one in farm if fits(one.serial, each.wanted)}
            free = {serial for serial, one in usable.items() if one.obstacle is None} - taken - kept
            more = number if each.replaces is None else 0
            at_limit = limit is not None and more > 0 and users[each.user] + more > limit
            serials = grants.pop((each.id, each.replaces), None)
            if serials is not None:
                assert not at_limit
                assert len(serials) == len(set(serials)) == number
                assert free.issuperset(serials)
                assert each.id not in found.places or each.replaces is not None
                taken.update(serials)
                free_at.update(dict.fromkeys(serials, self.now + each.duration))
                users[each.user] += more
                continue
            assert at_limit or len(free) < number
            if each.replaces is None:
                positions += 1
                place = found.places[each.id]
                assert place.position == positions
                self.check_place(each, place, free, at_limit=at_limit)
                working = [one for one, seen in usable.items() if seen.obstacle in PASSING]
                if at_limit or len(working) < number:
                    assert place.estimate is None
                    continue
                kept |= free
                soonest = sorted(working, key=lambda serial: (free_at[serial], serial))[:number]
                assert place.estimate == free_at[soonest[-1]]
                free_at.update(dict.fromkeys(soonest, place.estimate + each.duration))
        assert not grants
        assert len(found.places) == positions
        assert found.held_back == kept

    def turn(self, waiting: QueuedRequest) -> tuple[bool, timedelta, datetime, str]:
        """Who has waited long for his priority goes first; broken devices are replaced before."""
        urgency = waiting.priority * AGEING + (self.now - waiting.since)
        return (waiting.replaces is None, -urgency, waiting.since, waiting.id)

    def check_place(
        self, waiting: QueuedRequest, place: Place, free: set[str], *, at_limit: bool
    ) -> None:
        """What somebody is told who waits is true."""
        wanted = waiting.wanted
        if at_limit:
            assert isinstance(place.refusal, LimitExceeded)
            assert place.reason.startswith(f"{waiting.user} holds")
        elif wanted.count is not None:
            assert isinstance(place.refusal, NotEnoughDevices)
            assert place.reason.startswith(f"{wanted.count} wanted, {len(free)} free")
        else:
            assert isinstance(place.refusal, DeviceUnavailable)
            said = {part.split(" is ")[0] for part in place.reason.split("; ")}
            assert said == set(wanted.serials) - free

    @invariant()
    def all_have_what_they_asked_for_and_no_more_than_their_limit(self) -> None:
        held = Counter(board.holder for board in self.boards.values() if board.holder is not None)
        users = Counter[str]()
        for name, count in held.items():
            running = self.running[name]
            assert count <= running.asked.wanted.number
            users[running.asked.user] += count
        for user, count in users.items():
            limit = LIMITS.of(user).devices
            assert limit is None or count <= limit


def told(found: Plan) -> dict[str, tuple[int, str, datetime | None, str]]:
    return {
        name: (place.position, place.reason, place.estimate, place.refusal.message)
        for name, place in found.places.items()
    }


@pytest.mark.timeout(600)  # seconds: a failure takes minutes to be made small
def test_given_anything_that_may_happen_then_the_queue_is_fair_and_nobody_waits_for_ever() -> None:
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=40, stateful_step_count=25, suppress_health_check=list(HealthCheck)
        ),
    )
