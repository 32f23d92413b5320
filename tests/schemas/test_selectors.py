"""Selectors: what they mean, and that whatever is typed is either one or refused at its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.message import now
from icebus.schemas.selectors import Operator, Requirement, Selector, is_label, labels_of, parse

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,5}", fullmatch=True) | st.sampled_from(
    ["in", "notin", "exists", "a", "b"]
)
values = st.from_regex(r"[A-Za-z0-9_.:/+-]{1,5}", fullmatch=True) | st.sampled_from(["in", "x"])
several = st.frozensets(values, min_size=1, max_size=3)
requirements = st.one_of(
    st.builds(Requirement, names, st.sampled_from([Operator.IN, Operator.NOT_IN]), several),
    st.builds(Requirement, names, st.sampled_from([Operator.EXISTS, Operator.MISSING])),
)
selectors = st.builds(Selector, st.lists(requirements, max_size=4).map(tuple))
labels = st.dictionaries(names, values, max_size=4)

RACK_A = {"chip": "rp2350", "rack": "a"}


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("", True),
        (" ", True),
        ("chip=rp2350", True),
        ("chip = rp2350 , rack != b", True),
        ("chip=rp2350,rack!=a", False),
        ("bench!=3", True),
        ("rack", True),
        ("bench", False),
        ("!bench", True),
        ("! rack", False),
        ("rack in (a, b)", True),
        ("rack in (b)", False),
        ("bench in (b)", False),
        ("rack notin (a,b)", False),
        ("bench notin(b),chip=rp2350", True),
        ("port=1-1.2", False),
    ],
)
def test_given_labels_when_selected_then_all_requirements_count(text: str, met: bool) -> None:
    assert parse(text).matches(RACK_A) is met


@given(selector=selectors)
def test_given_any_selector_when_written_then_it_is_read_as_the_same(selector: Selector) -> None:
    assert parse(str(selector)) == selector


@given(selector=selectors, labels=labels)
def test_given_any_requirement_then_its_opposite_is_met_exactly_when_it_is_not(
    selector: Selector, labels: dict[str, str]
) -> None:
    opposite = {
        Operator.IN: Operator.NOT_IN,
        Operator.NOT_IN: Operator.IN,
        Operator.EXISTS: Operator.MISSING,
        Operator.MISSING: Operator.EXISTS,
    }
    for each in selector.requirements:
        other = Requirement(each.label, opposite[each.operator], each.values)
        assert each.met(labels) is not other.met(labels)
    assert selector.matches(labels) is all(each.met(labels) for each in selector.requirements)


@given(text=st.text("ab=!(), \tin☃", max_size=20) | st.text(max_size=20))
def test_given_anything_typed_then_it_is_a_selector_or_refused_at_a_place_within(
    text: str,
) -> None:
    try:
        selector = parse(text)
    except InvalidRequest as error:
        refused = error
    else:
        assert parse(str(selector)) == selector
        return

    assert 0 <= refused.details["position"] <= len(text)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("chip=", 5, "a value"),
        ("chip=,rack=b", 5, "a value"),
        ("chip=rp2350,", 12, "name of a label"),
        ("rack in a", 8, r"`\(`"),
        ("rack in (a", 10, r"`\)`"),
        ("rack in ()", 9, "a value"),
        ("rack b", 5, "a comma or the end"),
        ("=b", 0, "name of a label"),
        ("rack==b", 5, "a value"),
    ],
)
def test_when_it_is_no_selector_then_the_refusal_points_at_the_place(
    text: str, position: int, problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem) as refused:
        parse(text)

    assert refused.value.details == {"position": position}
    assert f"{text[:position]}⟨here⟩{text[position:]}" in refused.value.message


def test_given_a_device_then_what_is_known_of_it_wins_over_what_its_worker_was_told() -> None:
    report = DeviceReport(
        serial="E1",
        state=DeviceState.READY,
        since=now(),
        session="s",
        chip="rp2040",
        port="1-1.2",
        virtual=True,
        labels={"rack": "b", "chip": "rp2350", "firmware": "mine"},
    )

    assert labels_of("w1", report) == {
        "rack": "b",
        "chip": "rp2040",
        "worker": "w1",
        "port": "1-1.2",
        "serial": "E1",
        "virtual": "true",
        "firmware": "mine",
    }


@given(labels=labels)
def test_given_labels_that_a_worker_may_have_then_a_selector_can_ask_for_each(
    labels: dict[str, str],
) -> None:
    for name, value in labels.items():
        assert is_label(name, value)
        assert parse(f"{name}={value}").matches(labels)
    assert not is_label("", "x")
    assert not is_label("a b", "x")
    assert not is_label("a", "x,y")


def test_given_a_serial_in_another_case_then_it_is_met_and_other_labels_mind_it() -> None:
    labels = {"serial": "E66164", "rack": "B"}

    assert parse("serial=e66164").matches(labels)
    assert parse("serial in (x,e66164)").matches(labels)
    assert not parse("serial!=e66164").matches(labels)
    assert parse("rack!=b").matches(labels)
    assert parse("serial!=e66164").matches({})
