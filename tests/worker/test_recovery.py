"""What is done about a board that fails, without a board."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.worker.device import recovery
from icebus.worker.device.recovery import (
    REST_FIRST,
    REST_LONGEST,
    RESTS,
    SET_ASIDE,
    RecoveryStep,
    Remedy,
    step_after,
)

ANY = st.integers(1, 1000)


def test_given_failures_in_a_row_then_each_step_is_harder_and_flash_is_written_once() -> None:
    remedies = [step_after(failures).remedy for failures in range(1, 200)]
    assert remedies[:4] == [Remedy.REOPEN, Remedy.REBOOT, Remedy.REFLASH, Remedy.REST]
    assert remedies.count(Remedy.REFLASH) == 1, "flash wears"
    assert remedies.count(Remedy.REST) == RESTS
    assert set(remedies[4 + 2 * RESTS :]) == {Remedy.REBOOT, Remedy.SET_ASIDE}


def test_given_pauses_then_they_grow_within_bounds_and_quarantine_is_longer() -> None:
    pauses = [step.pause for step in map(step_after, range(1, 200)) if step.pause]
    assert pauses[0] == REST_FIRST
    assert pauses == sorted(pauses)
    assert max(pauses[:RESTS]) <= REST_LONGEST < SET_ASIDE == pauses[RESTS]


@given(ANY)
def test_given_any_failure_then_a_pause_is_never_far(failures: int) -> None:
    assert (
        step_after(failures).pause
        or step_after(failures + 1).pause
        or step_after(failures + 2).pause
        or (step_after(failures + 3).pause)
    )


@pytest.mark.parametrize("remedy", list(Remedy))
def test_given_a_remedy_then_its_first_failure_is_found(remedy: Remedy) -> None:
    first = recovery.failures_of(remedy)
    assert step_after(first).remedy is remedy
    assert all(step_after(before).remedy is not remedy for before in range(1, first))


def test_given_a_step_then_it_is_said_with_its_reason() -> None:
    said = RecoveryStep(Remedy.REBOOT).described("silent for 10 s", 2)
    assert said == "silent for 10 s; rebooting (2nd try)"
    assert step_after(4).described("it babbles", 4) == "it babbles; resting for 30 s (4th failure)"


@given(ANY)
def test_given_a_number_then_it_is_counted_as_people_do(number: int) -> None:
    said = recovery.ordinal(number)
    assert said.startswith(str(number))
    endings = {"1": "st", "2": "nd", "3": "rd"}
    teen = str(number)[-2:-1] == "1"
    assert said[-2:] == ("th" if teen else endings.get(str(number)[-1], "th"))
