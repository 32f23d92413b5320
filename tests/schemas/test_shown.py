"""How objects show themselves: short, and with nothing in them that a browser would obey."""

from __future__ import annotations

import doctest
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.schemas import shown
from icebus.schemas.errors import MeasurementFailed
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.kinds.variance import VarianceResult
from icebus.schemas.measuring import Failure
from icebus.schemas.message import now

COMMON = {"serial": "d1", "evaluation": "e", "batch": "b", "sha256": "0" * 64, "at": now()}
TIMES = {"upload": 0.1, "window": 1.0}
TAGS = re.compile(r"</?(?:table|caption|tr|th|td)(?: (?:style|colspan)=\"[a-z0-9:;-]+\")*>")


def test_given_the_examples_then_they_are_so() -> None:
    assert doctest.testmod(shown).failed == 0


@settings(max_examples=50)
@given(st.text(), st.text(), st.lists(st.text()))
def test_given_any_text_when_shown_as_html_then_all_of_it_is_escaped(
    caption: str, name: str, values: list[str]
) -> None:
    for html in (
        shown.html_values(caption, [(name, value) for value in values]),
        shown.html_rows(caption, [name], [[value] for value in values]),
    ):
        text = TAGS.sub("", html)
        assert not {"<", ">", '"'} & set(text)
        assert text.isprintable()


def test_given_more_rows_than_a_page_takes_then_the_rest_is_counted() -> None:
    html = shown.html_rows("boards", ["serial"], [["d"]] * 1_000)
    assert html.count("<tr>") == shown.MOST_ROWS + 2
    assert "… 800 more" in html


def test_given_results_when_shown_then_what_was_measured_is_and_it_is_short() -> None:
    result = PulseCountResult(bitstream="a.bin", pulses=7, exact=True, **COMMON, **TIMES)
    assert repr(result) == "PulseCountResult(bitstream='a.bin', serial='d1', pulses=7, exact=True)"
    assert str(result) == repr(result)
    wave = VarianceResult(
        bitstream="a.bin", mean_difference=1.5, lowest=0, highest=9, samples=2048, rate=1000,
        exact=False, waveform=[1] * 2048, annotations={"x": "<script>" * 500}, **COMMON, **TIMES,
    )  # fmt: skip
    assert "waveform=[1, 1, 1, 1, 1, 1, ...]" in repr(wave)
    assert len(repr(wave)) < 1_000
    assert "<script>" not in wave._repr_html_()
    assert "UTC" in wave._repr_html_()


def test_given_a_failure_when_shown_then_it_says_why() -> None:
    failure = Failure(bitstream="a\x1b[31m", error=MeasurementFailed("<b>silent</b>"), **COMMON)
    assert "code='measurement_failed', message='<b>silent</b>'" in repr(failure)
    assert "&lt;b&gt;silent" in failure._repr_html_()
    assert "\x1b" not in repr(failure) + failure._repr_html_()


def test_given_a_result_when_tab_is_pressed_then_its_own_names_come_and_none_that_warn() -> None:
    result = PulseCountResult(bitstream="a.bin", pulses=7, exact=True, **COMMON, **TIMES)
    names = [name for name in dir(result) if not name.startswith("_")]
    assert {"pulses", "frequencies", "serial", "source", "annotations", "model_dump"} < {*names}
    assert not {"copy", "dict", "json", "parse_obj", "construct", "model_fields"} & {*names}
    assert all(hasattr(result, name) for name in names)
