"""Expiries: how long a message is kept, in seconds and in words."""

from __future__ import annotations

from typing import Any

import pytest

from icebus.schemas.deadline import Deadline
from icebus.schemas.expiry import AT_DEADLINE, NEVER, Expiry


@pytest.mark.parametrize(
    ("expiry", "words"),
    [
        (NEVER, "none"),
        (AT_DEADLINE, "the deadline"),
        (Expiry(intervals=3), "3 × interval"),
        (Expiry.after(hours=1), "1 h"),
        (Expiry.after(minutes=5), "5 min"),
        (Expiry.after(hours=1, minutes=30), "90 min"),
        (Expiry(fixed=90), "90 s"),
    ],
)
def test_given_an_expiry_then_the_reference_says_it_in_words(expiry: Expiry, words: str) -> None:
    assert str(expiry) == words


def test_given_the_moment_then_an_expiry_is_so_many_seconds() -> None:
    assert NEVER.seconds() is None
    assert Expiry.after(minutes=5).seconds() == 300
    assert Expiry(intervals=3).seconds(interval=0.5) == 1.5
    assert AT_DEADLINE.seconds(deadline=Deadline.after(60)) == pytest.approx(60, abs=5)
    assert AT_DEADLINE.seconds(deadline=Deadline.after(-1)) == 0.0


@pytest.mark.parametrize(
    ("expiry", "given", "message"),
    [
        (NEVER, {"interval": 1.0}, "takes no interval"),
        (NEVER, {"deadline": Deadline.after(1)}, "takes no deadline"),
        (Expiry.after(hours=1), {"interval": 1.0}, "takes no interval"),
        (Expiry(intervals=3), {}, "needs to know the interval"),
        (Expiry(intervals=3), {"deadline": Deadline.after(1)}, "needs to know the interval"),
        (AT_DEADLINE, {}, "needs to know the deadline"),
        (AT_DEADLINE, {"interval": 1.0}, "takes no interval"),
    ],
)
def test_given_too_much_or_too_little_then_it_is_refused(
    expiry: Expiry, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        expiry.seconds(**given)
