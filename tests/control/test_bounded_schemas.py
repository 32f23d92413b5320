"""What a worker publishes as a schema takes control no longer than any other."""

from __future__ import annotations

from typing import Any

import pytest

from icebus.control.watch import bounded_schemas
from icebus.control.watch.kinds import Kind, KindLookup, read_kinds
from icebus.schemas.components import KindInfo, WorkerKinds
from icebus.schemas.errors import InvalidRequest, KindFailed
from icebus.schemas.ids import ID_PATTERN


def kind(args: dict[str, Any]) -> Kind:
    return Kind("odd", KindInfo(firmware="default", args=args), "lab1")


def doubling(depth: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {
        f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{depth}": {"type": "object"}}}


TWICE_ITSELF = {"$ref": "#/$defs/a"}
RECURSIVE = {
    "$defs": {"a": {"properties": {"x": {"allOf": [TWICE_ITSELF, TWICE_ITSELF]}}}},
    **TWICE_ITSELF,
}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("schema", "args"),
    [
        pytest.param(doubling(60), {}, id="references that double"),
        pytest.param(RECURSIVE, nested(60), id="recursion that doubles"),
        pytest.param({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, {}, id="itself"),
        pytest.param({"$ref": "#/nowhere"}, {}, id="nowhere"),
        pytest.param({"$ref": "http://[bad"}, {}, id="no address"),
    ],
)
def test_given_a_schema_that_leads_nowhere_soon_when_args_are_checked_then_they_are_refused(
    schema: dict[str, Any], args: dict[str, Any]
) -> None:
    with pytest.raises(KindFailed, match="lab1"):
        kind(schema).check(args)


BACKTRACKING = "^(a+)+$"


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {BACKTRACKING: {}}},
        {"patternProperties": {BACKTRACKING: {}}, "additionalProperties": False},
        {"patternProperties": {BACKTRACKING: {}}, "unevaluatedProperties": False},
        {"propertyNames": {"not": {"pattern": BACKTRACKING}}},
        {"properties": {"list": {"uniqueItems": True}}},
    ],
)
def test_given_a_keyword_that_takes_long_when_args_are_checked_then_it_is_left_to_the_worker(
    schema: dict[str, Any],
) -> None:
    kind(schema).check({"a" * 40 + "!": 0, "list": [[i] if i % 2 else i for i in range(20_000)]})


def test_given_a_pattern_that_backtracks_when_args_are_checked_then_the_answer_comes() -> None:
    asks = kind({"properties": {"x": {"pattern": BACKTRACKING}}})

    asks.check({"x": "a" * 50})
    with pytest.raises(InvalidRequest, match="does not match"):
        asks.check({"x": "a" * 50 + "!"})


@pytest.mark.parametrize("pattern", ["(a|b|ab|[a-z]{1,200}){1,100}c", "[a-c]{1,9}" * 30 + "z"])
def test_given_a_pattern_of_many_states_when_args_are_checked_then_the_worker_decides(
    pattern: str,
) -> None:
    kind({"properties": {"x": {"pattern": pattern}}}).check({"x": "ab" * 50_000})


@pytest.mark.parametrize("pattern", [ID_PATTERN, "^[0-9a-f]{64}$", "^[a-z]+(-[a-z]+)*$"])
def test_given_a_usual_pattern_when_args_are_checked_then_it_is_matched(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="does not match"):
        kind({"properties": {"x": {"pattern": pattern}}}).check({"x": "A!"})


def test_given_a_list_with_an_item_twice_when_args_are_checked_then_that_is_refused() -> None:
    asks = kind({"properties": {"x": {"uniqueItems": True}}})

    asks.check({"x": [1, "1", [1], {"a": 1}, {"a": 2}]})
    with pytest.raises(InvalidRequest, match="twice"):
        asks.check({"x": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]})


def test_given_a_schema_that_takes_long_when_a_hundred_requests_wait_then_it_is_followed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[Any] = []
    check = Kind.check

    def count(self: Kind, args: Any) -> None:
        checked.append(args)
        check(self, args)

    monkeypatch.setattr(Kind, "check", count)
    lookup = KindLookup({"lab1": {"odd": kind(doubling(60))}})
    for number in range(100):
        with pytest.raises(KindFailed, match="lab1"):
            lookup.accepting("odd", {"x": number})
    assert len(checked) == 1


class Clock:
    """What time checks take, as the test says: at each look at it, that much has gone by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self.now = 0.0
        self.takes: list[float] = []
        monkeypatch.setattr(bounded_schemas, "thread_time", self.spend)
        monkeypatch.setattr(bounded_schemas, "monotonic", lambda: self.now)

    def spend(self) -> float:
        self.looks += 1
        self.now += self.takes.pop(0) if self.takes else 0.0
        return self.now


WINDOW = {"type": "object", "properties": {"window": {"type": "number"}}}
LONG = 2 * bounded_schemas.MOST_SECONDS


def test_given_a_pause_of_this_process_when_args_are_checked_then_they_are_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asks = kind(WINDOW)
    clock = Clock(monkeypatch)
    # The first look says when a check began, the second what its first step took.
    clock.takes = [0.0, LONG]
    asks.check({"window": 1})

    clock.takes = [0.0, LONG]
    with pytest.raises(InvalidRequest, match="number"):
        asks.check({"window": "wide"})


def test_given_a_schema_that_was_followed_when_the_machine_is_slow_then_the_worker_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asks = kind(WINDOW)
    asks.check({})
    clock = Clock(monkeypatch)
    clock.takes = [0.0, LONG] * 2
    asks.check({"window": "wide"})

    clock.now += bounded_schemas.SLOW_FOR
    with pytest.raises(InvalidRequest, match="number"):
        asks.check({"window": "wide"})


def test_given_a_schema_that_takes_long_by_itself_when_asked_often_then_it_is_followed_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asks = kind(WINDOW)
    clock = Clock(monkeypatch)
    clock.takes = [0.0, LONG] * 2
    for number in range(100):
        with pytest.raises(KindFailed, match="250 ms"):
            asks.check({"window": number})
    assert clock.looks == 4

    clock.now += bounded_schemas.SLOW_FOR
    asks.check({"window": 1})


def test_given_a_pattern_that_only_python_reads_when_args_are_checked_then_the_worker_decides() -> (
    None
):
    kind({"properties": {"x": {"pattern": "^(?=b)"}}}).check({"x": "a"})


def test_given_a_schema_too_large_when_a_worker_offers_it_then_that_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="bytes of schema"):
        kind({"description": "x" * 100_000})


def test_given_kinds_that_are_too_large_together_then_they_are_refused_unread() -> None:
    info = KindInfo(firmware="default", args={"description": "x" * 10_000})
    message = WorkerKinds(kinds={f"k{number}": info for number in range(4)})
    with pytest.raises(InvalidRequest, match="the kinds of worker lab1 have"):
        read_kinds("lab1", message)
