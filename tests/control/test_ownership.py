"""Whose device it is, whatever workers say: a pure decision, and its memory over time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from icebus.control.decide.ownership import LURKING, Claim, claimants, decide_owner
from icebus.control.watch.owners import CLAIM_REMEMBERED
from icebus.control.watch.workers import Workers
from icebus.schemas.components import WorkerHeartbeat, WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.message import now

RELEASE_AFTER = 600.0
NAMES = ("a", "b", "c")

CLAIMS = st.lists(
    st.builds(
        Claim,
        worker=st.sampled_from(NAMES),
        has=st.booleans(),
        current=st.booleans(),
        answers=st.sampled_from([True, False, None]),
        away=st.sampled_from([0.0, 1.0, RELEASE_AFTER - 1, RELEASE_AFTER, 1e6]),
    ),
    unique_by=lambda claim: claim.worker,
)


def decide(owner: str | None, claims: Sequence[Claim]) -> str | None:
    return decide_owner(owner, claims, RELEASE_AFTER)


@given(st.sampled_from([None, *NAMES]), CLAIMS)
def test_given_any_claims_when_decided_again_then_it_stays_so(
    owner: str | None, claims: list[Claim]
) -> None:
    decided = decide(owner, claims)

    assert decide(decided, claims) == decided


@given(st.sampled_from([None, *NAMES]), CLAIMS, st.randoms())
def test_given_any_claims_then_their_order_does_not_matter(
    owner: str | None, claims: list[Claim], random: object
) -> None:
    shuffled = list(claims)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert decide(owner, shuffled) == decide(owner, claims)
    assert claimants(owner, shuffled) == claimants(owner, claims)


@given(st.sampled_from(NAMES), CLAIMS)
def test_given_an_owner_that_has_it_then_nobody_takes_it(owner: str, claims: list[Claim]) -> None:
    has_it = Claim(owner, has=True, away=RELEASE_AFTER - 1)

    assert decide(owner, [has_it, *(c for c in claims if c.worker != owner)]) == owner


@given(st.sampled_from([None, *NAMES]), CLAIMS)
def test_given_that_it_changes_hands_then_the_old_owner_let_go_and_the_new_one_is_there(
    owner: str | None, claims: list[Claim]
) -> None:
    decided = decide(owner, claims)

    if owner is None or decided == owner:
        return
    by_name = {claim.worker: claim for claim in claims}
    old, new = by_name.get(owner), by_name[str(decided)]
    assert old is None or not old.has or old.away >= RELEASE_AFTER
    assert (new.has, new.current, new.answers) == (True, True, True)
    assert decided not in claimants(decided, claims)


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        (Claim("a", has=True), "a"),
        (Claim("a", has=True, answers=False, away=RELEASE_AFTER - 1), "a"),
        (Claim("a", has=True, answers=False, away=RELEASE_AFTER), "b"),
        (Claim("a", has=False), "b"),
        (Claim("a", has=False, answers=False, away=0.1), "b"),
    ],
)
def test_given_another_that_has_it_then_it_is_followed_once_the_old_worker_let_go(
    old: Claim, expected: str
) -> None:
    assert decide("a", [old, Claim("b", has=True)]) == expected


@pytest.mark.parametrize(
    ("early", "let_go", "expected"),
    [(False, 0.0, "b"), (True, 0.0, "a"), (True, LURKING - 1, "a"), (True, LURKING, "b")],
)
def test_given_one_that_claimed_it_all_along_then_it_has_to_wait_where_others_do_not(
    early: bool, let_go: float, expected: str
) -> None:
    claims = [Claim("a", has=False), Claim("b", has=True, early=early)]

    assert decide_owner("a", claims, RELEASE_AFTER, let_go) == expected


class Farm(RuleBasedStateMachine):
    """Three workers that say what they like of one device, come, go, and fall silent."""

    @initialize()
    def begin(self) -> None:
        self.at = 1000.0
        self.workers = Workers(1.0, RELEASE_AFTER)
        self.workers.connected(0.0)
        self.sequence = 0
        self.phase = dict.fromkeys(NAMES, WorkerPhase.READY)
        self.has = dict.fromkeys(NAMES, False)
        self.silent = dict.fromkeys(NAMES, False)
        self.absent_since: dict[str, float] = {}
        self.owner: str | None = None
        for name in NAMES:
            self.say_state(name)
        self.pass_time(1)

    def say_state(self, name: str) -> None:
        serials = ["s"] if self.has[name] else []
        state = WorkerState(state=self.phase[name], session=name, serials=serials)
        self.workers.on_state(name, state, self.at)

    @rule(name=st.sampled_from(NAMES), has=st.booleans())
    def report(self, name: str, has: bool) -> None:
        if self.phase[name] is not WorkerPhase.READY:
            return
        self.has[name] = has
        if not has:
            self.absent_since.setdefault(name, self.at)
        else:
            self.absent_since.pop(name, None)
        said = DeviceState.READY if has else DeviceState.ABSENT
        report = DeviceReport(serial="s", state=said, since=now(), session=name)
        self.say_state(name)
        self.workers.on_report(name, "s", report, self.at)

    @rule(name=st.sampled_from(NAMES), phase=st.sampled_from(WorkerPhase))
    def change(self, name: str, phase: WorkerPhase) -> None:
        self.phase[name] = phase
        self.say_state(name)

    @rule(name=st.sampled_from(NAMES), silent=st.booleans())
    def fall_silent(self, name: str, silent: bool) -> None:
        self.silent[name] = silent

    @rule(seconds=st.sampled_from([1, 5, 61, 599, 601]))
    def pass_time(self, seconds: int) -> None:
        for _ in range(min(seconds, 7)):
            self.at += seconds / min(seconds, 7)
            self.sequence += 1
            self.workers.on_heartbeat("e", self.sequence, self.at)
            for name in NAMES:
                if not self.silent[name] and self.phase[name] not in ("lost", "offline"):
                    echo = WorkerHeartbeat(epoch="e", sequence=self.sequence, session=name)
                    self.workers.on_echo(name, echo, self.at)
            self.workers.settle_contested(self.at)

    @rule(name=st.sampled_from(NAMES))
    def retire(self, name: str) -> None:
        self.workers.on_state(name, None, self.at)
        self.has[name], self.phase[name] = False, WorkerPhase.LOST
        if self.owner == name:
            self.owner = None

    @invariant()
    def nobody_takes_what_another_has_and_no_board_is_lost(self) -> None:
        if not hasattr(self, "workers"):
            return
        owner = self.workers.owner("s")
        before, self.owner = self.owner, owner
        if before is not None and owner != before:
            away = self.workers.away(before, self.at)
            assert not self.has[before] or away >= RELEASE_AFTER or before not in self.known()
        assert not self.workers.settle("s", self.at), "a second look changes nothing"
        having = [n for n in NAMES if self.has[n] and self.workers.health(n, self.at).answers]
        having = [n for n in having if self.workers.get(n).has_now("s")]
        if having:
            assert owner is not None
            waits = self.at - self.absent_since.get(owner, -1e9) < LURKING
            assert owner in having or waits or self.workers.away(owner, self.at) < RELEASE_AFTER
        told = self.workers.claimants("s")
        assert {name for name in having if name != owner} <= set(told)
        assert owner not in told

    def known(self) -> set[str]:
        return {worker.name for worker in self.workers.all()}


TestFarm = pytest.mark.slow(Farm.TestCase)


def test_when_a_worker_claims_and_unclaims_in_turn_then_it_is_one_alarm_until_it_is_quiet() -> None:
    workers = Workers(1.0)
    workers.connected(0.0)
    for name in ("a", "b"):
        workers.on_state(name, WorkerState(state=WorkerPhase.READY, session=name, serials=["s"]), 0)

    def say(name: str, state: DeviceState, at: float) -> bool:
        report = DeviceReport(serial="s", state=state, since=now(), session=name)
        return workers.on_report(name, "s", report, at)

    say("a", DeviceState.READY, 0.0)
    say("b", DeviceState.READY, 1.0)
    told = set()
    for second in range(6):
        say("b", DeviceState.ABSENT if second % 2 else DeviceState.READY, float(second))
        told.add(workers.claimants("s"))
    quiet = workers.settle_contested(6.0 + CLAIM_REMEMBERED + 1)

    assert told == {("b",)}
    assert (quiet, workers.claimants("s"), workers.owner("s")) == ({"s"}, (), "a")
