"""Ids and deadlines."""

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeadlineExceeded
from icebus.schemas.ids import ALL_DEVICES, RESERVED, is_id, is_serial, meant, new_id, to_id


@given(text=st.text(max_size=200))
def test_given_any_name_then_an_id_is_made_of_it(text: str) -> None:
    made = to_id(text)
    assert is_id(made)
    assert made not in RESERVED
    assert to_id(made) == made


@given(text=st.from_regex(r"[A-Za-z0-9_]{1,64}\Z", fullmatch=True))
def test_given_an_id_then_it_stays_as_it_is(text: str) -> None:
    assert to_id(text) == (text if text not in RESERVED else f"{text}-1")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("lab.example.org", "lab-example-org"),
        ("Älice Müller", "lice-M-ller"),
        ("", "unnamed"),
        ("///", "unnamed"),
        ("control", "control-1"),
        ("/all/", "all-1"),
        ("x" * 100, "x" * 64),
    ],
)
def test_given_a_host_or_login_name_then_its_id_is_near(name: str, made: str) -> None:
    assert to_id(name) == made


def test_given_fresh_ids_then_they_differ_and_are_ids() -> None:
    made = {new_id("r-") for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_id(each) and each.startswith("r-") for each in made)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "a\n", "+", "#", "x" * 65, "é", "\0"])
def test_given_what_can_not_stand_in_a_topic_then_it_is_no_id(text: str) -> None:
    assert not is_id(text)


def test_given_a_deadline_then_what_remains_shrinks_to_nothing() -> None:
    deadline = Deadline.after(0.05)
    assert 0 < deadline.remaining <= 0.05
    assert not deadline.expired
    deadline.check("the test")
    while not deadline.expired:
        time.sleep(0.005)
    assert deadline.remaining == 0.0
    with pytest.raises(DeadlineExceeded, match="the test took longer"):
        deadline.check("the test")


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_given_no_time_then_a_deadline_has_expired_at_once(seconds: float) -> None:
    assert Deadline.after(seconds).expired


def test_given_a_deadline_then_it_can_be_handed_on() -> None:
    deadline = Deadline.after(10)
    assert pickle.loads(pickle.dumps(deadline)) == deadline


def test_given_what_stands_for_all_devices_then_it_is_no_serial() -> None:
    assert is_id(ALL_DEVICES)
    assert not is_serial(ALL_DEVICES)
    assert is_serial("E6616407E308B9E2")


def test_given_names_in_another_case_then_the_known_are_meant_if_that_is_one() -> None:
    known = ["E66164", "b1", "B1", "c1"]

    assert meant(["e66164", "C1"], known) == ["E66164", "c1"]
    assert meant(["b1", "B1"], known) == ["b1", "B1"]
    assert meant(["E66164", "e66164"], known) == ["E66164"]
    assert meant(["nobody", "E6616"], known) == ["nobody", "E6616"]
