"""What the passing of time says of a run; the test is the clock."""

from __future__ import annotations

from icebus.client._evaluating.each_board import Ledger
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.timeouts import DOUBT, RETURN, Vigil
from icebus.schemas.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    DeviceFailed,
    IcebusError,
    ReservationEnded,
)

UNPLUGGED = DeviceFailed("unplugged")
OPTIONS = Options(stall=100, patience=30, broker_away=60)


def watched(patient: bool = False) -> tuple[Ledger[int], Vigil]:
    """Boards a and b; only a owes something."""
    ledger: Ledger[int] = Ledger("batch", ["a", "b"], patient=patient)
    ledger.add(1)
    ledger.due()
    (slot,) = ledger._boards["b"].talk.outstanding.values()
    ledger.settle("b", slot.evaluation)
    return ledger, Vigil(ledger, OPTIONS, 0)


def test_given_silence_when_a_board_owes_nothing_or_gave_a_sign_then_it_is_not_stalled() -> None:
    _, vigil = watched()
    assert vigil.stalled(100) == {}
    stalled = vigil.stalled(101)
    assert {serial: type(error) for serial, error in stalled.items()} == {"a": DeadlineExceeded}
    vigil.sign("a", 50)
    assert vigil.stalled(101) == {}


def test_given_a_board_that_is_lost_when_time_passes_then_it_is_neither_stalled_nor_doubted() -> (
    None
):
    ledger, vigil = watched()
    ledger.lose("a", UNPLUGGED)
    assert vigil.stalled(1000) == {}
    assert not vigil.doubts(1000)


def test_given_a_silent_board_when_it_was_doubted_then_not_again_before_as_long_has_passed() -> (
    None
):
    _, vigil = watched()
    assert [vigil.doubts(at) for at in (DOUBT, DOUBT + 1, DOUBT + 2, 2 * DOUBT + 2)] == [
        False,
        True,
        False,
        True,
    ]


def test_given_a_broker_away_when_it_was_back_in_between_then_its_absence_is_counted_anew() -> None:
    _, vigil = watched()
    absences = [(False, 0), (False, 60), (True, 61), (False, 62), (False, 122), (False, 123)]
    told = [vigil.broker(connected, at) for connected, at in absences]
    assert told[:-1] == [None] * 5
    assert isinstance(told[-1], BrokerUnavailable)


def test_given_a_lost_board_when_nobody_tells_of_its_return_then_it_is_tried_after_a_while() -> (
    None
):
    ledger, vigil = watched()
    ledger.lose("a", UNPLUGGED)
    assert vigil.returning(0) == []
    assert vigil.returning(RETURN + 1) == ["a"]
    ledger.join("a")
    assert vigil.returning(RETURN + 2) == []


def lost(ledger: Ledger[int], error: IcebusError) -> None:
    for serial in ("a", "b"):
        ledger.lose(serial, error)


def test_given_no_board_left_when_one_may_come_back_then_patience_decides() -> None:
    ledger, vigil = watched(patient=True)
    lost(ledger, UNPLUGGED)
    assert vigil.hopeless(10) is None
    vigil.hope()
    assert vigil.hopeless(20) is None
    assert vigil.hopeless(50) is None
    error = vigil.hopeless(51)
    assert isinstance(error, DeviceFailed)
    assert "no board came back in 30 s" in error.message


def test_given_no_board_left_when_none_can_come_back_then_there_is_no_waiting() -> None:
    ledger, vigil = watched(patient=True)
    lost(ledger, ReservationEnded("it is over"))
    assert isinstance(vigil.hopeless(0), ReservationEnded)


def test_given_an_account_that_is_over_by_itself_when_asked_then_nothing_is_to_be_given_up() -> (
    None
):
    ledger, vigil = watched()
    lost(ledger, UNPLUGGED)
    assert ledger.forsaken is not None
    assert vigil.hopeless(1000) is None
