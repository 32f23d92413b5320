"""The decisions of a device, without a device."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.schemas.devices import Desired, DeviceState
from icebus.worker.device import lifecycle, recovery
from icebus.worker.device.lifecycle import (
    BeReady,
    Flash,
    Quarantine,
    Refuse,
    Serve,
    Step,
    may_follow,
    next_step,
)
from icebus.worker.device.recovery import Remedy

S = DeviceState
USABLE = {"pulsecount": ("icebus", "pulse_count"), "blink": ("default",)}


# --- the table ----------------------------------------------------------------------------------


def test_given_the_table_then_every_state_is_in_it_and_can_be_left_and_reached() -> None:
    assert set(lifecycle.TRANSITIONS) == set(S)
    reached: set[S] = set(lifecycle.INITIAL)
    while more := {after for state in reached for after in lifecycle.TRANSITIONS[state]} - reached:
        reached |= more
    assert reached == set(S)
    assert all(lifecycle.TRANSITIONS.values())


@pytest.mark.parametrize("state", list(S))
def test_given_any_state_then_a_board_may_go_away_or_break(state: S) -> None:
    assert may_follow(state, S.ABSENT)
    assert may_follow(state, S.BROKEN)


def test_given_a_board_not_proved_then_it_may_be_neither_ready_nor_serving() -> None:
    proved = {S.TESTING, S.PREPARING, S.SERVING, S.RELEASING, S.READY}
    for before, after in itertools.product(S, (S.READY, S.SERVING)):
        if before is not after and may_follow(before, after):
            assert before in proved
    assert not may_follow(None, S.READY)
    assert not may_follow(None, S.SERVING)


# --- the next step ------------------------------------------------------------------------------


def wanted(**fields: object) -> Desired:
    return Desired.model_validate({"serial": "S1", "generation": 1, **fields})


HELD = {"reservation": "r1", "user": "alice", "kind": "pulsecount"}


@pytest.mark.parametrize(
    ("desired", "firmware", "step"),
    [
        (None, "default", BeReady()),
        (wanted(), "default", BeReady()),
        (wanted(**{**HELD, "user": None}), "pulse_count", BeReady()),
        (wanted(**{**HELD, "kind": None}), "pulse_count", BeReady()),
        (wanted(**HELD), "pulse_count", Serve("pulsecount")),
        (wanted(**HELD), "icebus", Serve("pulsecount")),
        (wanted(**HELD), "default", Flash(("icebus", "pulse_count"))),
        (wanted(**{**HELD, "kind": "blink"}), "default", Serve("blink")),
        (wanted(quarantined="smoke"), "default", Quarantine("smoke")),
        (wanted(**HELD, quarantined="smoke"), "pulse_count", Quarantine("smoke")),
    ],
)
def test_given_what_is_desired_then_the_next_step_follows(
    desired: Desired | None, firmware: str, step: Step
) -> None:
    assert next_step(desired, firmware, USABLE) == step


def test_given_an_unknown_kind_then_it_is_refused_by_name() -> None:
    step = next_step(wanted(**{**HELD, "kind": "nosuch"}), "default", USABLE)
    assert isinstance(step, Refuse)
    assert "nosuch" in step.reason


@given(
    st.sampled_from(["default", "pulse_count", "icebus", ""]),
    st.sampled_from(sorted(USABLE)),
    st.data(),
)
def test_given_a_flash_that_was_done_then_the_next_step_is_to_serve(
    firmware: str, kind: str, data: st.DataObject
) -> None:
    desired = wanted(**{**HELD, "kind": kind})
    step = next_step(desired, firmware, USABLE)
    if isinstance(step, Flash):
        step = next_step(desired, data.draw(st.sampled_from(step.firmware)), USABLE)
    assert step == Serve(kind)


# --- a whole life -----------------------------------------------------------------------------


class Decisions(RuleBasedStateMachine):
    """A device's life as its decisions make it: the rules are what the peers may do to it."""

    def __init__(self) -> None:
        super().__init__()
        self.state: S | None = None
        self.firmware = "default"
        self.flashing = ""
        self.desired: Desired | None = None
        self.failures = 0
        self.tested = False
        self.reflashes = 0

    def go(self, state: S) -> None:
        assert may_follow(self.state, state), f"{self.state} to {state}"
        self.state = state

    def work(self, otherwise: S) -> S:
        held = self.desired is not None and self.desired.reservation is not None
        return S.PREPARING if held else otherwise

    def flash(self, firmware: str) -> None:
        self.flashing, self.tested = firmware, False
        self.go(self.work(S.FLASHING))

    def become_desired(self) -> None:
        assert self.tested
        match next_step(self.desired, self.firmware, USABLE):
            case BeReady():
                self.go(S.READY)
            case Quarantine(_):
                self.go(S.QUARANTINED)
            case Refuse(_):
                self.go(S.BROKEN)
            case Flash((preferred, *_)):
                self.flash(preferred)
            case Serve(_):
                self.go(S.SERVING)
        if self.state in lifecycle.HEALTHY:
            self.failures = self.reflashes = 0

    @precondition(lambda self: self.state in (None, S.ABSENT, S.BROKEN, S.QUARANTINED))
    @rule()
    def board_comes(self) -> None:
        self.flashing, self.tested = "", False
        self.go(self.work(S.TESTING))

    @precondition(lambda self: self.state in (S.TESTING, S.PREPARING) and not self.flashing)
    @rule()
    def test_passes(self) -> None:
        self.tested = True
        self.become_desired()

    @precondition(lambda self: self.flashing != "")
    @rule()
    def image_is_copied(self) -> None:
        self.firmware, self.flashing = self.flashing, ""
        self.go(self.work(S.TESTING))

    @precondition(lambda self: self.state not in (None, S.ABSENT, S.BROKEN, S.QUARANTINED))
    @rule()
    def something_fails(self) -> None:
        self.failures += 1
        self.flashing, self.tested = "", False
        match recovery.step_after(self.failures).remedy:
            case Remedy.REOPEN | Remedy.REBOOT:
                # What serves nobody any more has left serving before it can fail.
                self.go(self.work(S.TESTING))
            case Remedy.REFLASH:
                self.reflashes += 1
                self.flash("default")
            case Remedy.REST:
                self.go(S.BROKEN)
            case Remedy.SET_ASIDE:
                self.go(S.QUARANTINED)

    @precondition(lambda self: self.state is not None)
    @rule()
    def board_goes(self) -> None:
        self.flashing, self.tested = "", False
        self.go(S.ABSENT)

    @rule(
        reservation=st.sampled_from([None, "r1", "r2"]),
        kind=st.sampled_from([*USABLE, "nosuch"]),
        quarantined=st.sampled_from([None, None, "smoke"]),
    )
    def control_desires(self, reservation: str | None, kind: str, quarantined: str | None) -> None:
        self.desired = wanted(
            reservation=reservation,
            user="alice" if reservation else None,
            kind=kind if reservation else None,
            quarantined=quarantined,
        )
        if self.state in (S.READY, S.SERVING):
            self.become_desired()
        elif self.state in (S.TESTING, S.FLASHING):
            self.state = self.work(self.state)  # it goes on, for the reservation now
        elif self.state is S.QUARANTINED and quarantined is None:
            self.tested = False
            self.go(self.work(S.TESTING))

    @precondition(lambda self: self.state is S.SERVING)
    @rule()
    def released_while_busy(self) -> None:
        self.desired = wanted()
        self.go(S.RELEASING)
        self.become_desired()

    @invariant()
    def nobody_is_served_by_an_untested_board(self) -> None:
        if self.state in (S.READY, S.SERVING):
            assert self.tested

    @invariant()
    def who_serves_runs_what_its_kind_needs(self) -> None:
        if self.state is S.SERVING:
            assert self.desired is not None
            assert self.firmware in USABLE[str(self.desired.kind)]

    @invariant()
    def flash_does_not_wear(self) -> None:
        assert self.reflashes <= 1, "a board that can't be repaired is not flashed again and again"


TestDecisions = Decisions.TestCase
TestDecisions.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    ("change", "goes_on"),
    [
        ({}, True),
        ({"until": None}, True),
        ({"quarantined": "smoke"}, False),
        ({"reservation": "r2"}, False),
        ({"user": "bob"}, False),
        ({"kind": "variance"}, False),
        ({"reservation": None, "user": None, "kind": None}, False),
    ],
)
def test_given_who_is_served_then_that_goes_on_while_exactly_it_is_desired(
    change: dict[str, Any], goes_on: bool
) -> None:
    served = {"reservation": "r1", "user": "alice", "kind": "pulsecount"}
    wanted = Desired.model_validate({"serial": "S1", "generation": 1, **served, **change})
    assert lifecycle.still_wanted(wanted, **served) is goes_on


def test_given_nothing_from_control_then_nobody_is_to_be_served() -> None:
    assert not lifecycle.still_wanted(None, "r1", "alice", "pulsecount")
