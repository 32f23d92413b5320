"""What JSON can't hold is refused at once, and no failure on the dispatcher is kept from a run."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from tests.client.frequency import KIND, FrequencyWorker
from tests.client.scripted_control import ScriptedControl
from tests.client.scripted_worker import ScriptedWorker

from icebus.broker.embedded import EmbeddedBroker
from icebus.client import Bitstream, PulseCountClient
from icebus.client._evaluating.boards import MeasuringBoards
from icebus.client._evaluating.distribution.each_board import EachBoard
from icebus.client._evaluating.running.board_calls import BoardCalls
from icebus.client._json_values import json_object
from icebus.schemas.errors import BitstreamInvalid, InternalError, InvalidRequest, RemoteError

NOT_UNICODE = "caf\udce9.bin"


def nested(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


def endless() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


class Size(IntEnum):
    TWO = 2


UNFIT = {
    "no mapping: a list": ([1], "args must be a mapping of names to values, not list"),
    "no mapping: text": ("s", "args must be a mapping of names to values, not str"),
    "no mapping: a number": (3, "args must be a mapping of names to values, not int"),
    "a key that is no text": ({1: 2}, "a key of args must be text, not int"),
    "an object": ({"repeats": object()}, "args['repeats']: must be what JSON can hold"),
    "a date": ({"at": datetime.date(2026, 1, 1)}, "not datetime.date"),
    "a set": ({"a": [{1}]}, "args['a'][0]: must be what JSON can hold"),
    "bytes": ({"a": b"1"}, "not bytes"),
    "no number": ({"a": math.nan}, "args['a']: must be"),
    "infinity": ({"a": {"b": -math.inf}}, "args['a']['b']: must be"),
    "a huge integer": ({"a": 10**5000}, "an integer of more than 1024 bits"),
    "no Unicode": ({"a": NOT_UNICODE}, "args['a']: 'caf\\udce9.bin' is not valid Unicode"),
    "a key without Unicode": ({NOT_UNICODE: 1}, "a key of args: 'caf\\udce9.bin'"),
    "nested deeply": ({"a": nested(1000)}, "args: nested more than 100 deep"),
    "nested without end": ({"a": endless()}, "args: nested more than 100 deep"),
}

unfit = pytest.mark.parametrize(("args", "told"), UNFIT.values(), ids=UNFIT)


@unfit
def test_given_what_json_can_not_hold_when_checked_then_the_error_says_where(
    args: Any, told: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        json_object(args, "args")
    assert told in caught.value.message
    assert caught.value.info().model_dump_json()


def test_given_what_json_can_hold_when_checked_then_a_copy_of_plain_values_comes_back() -> None:
    given = {"a": (1, 2.5, None, True), "b": {"c": "ä", "d": [Size.TWO]}, "e": nested(90)}
    plain = json_object(given, "args")
    assert plain == {"a": [1, 2.5, None, True], "b": {"c": "ä", "d": [2]}, "e": nested(90)}
    assert type(plain["b"]["d"][0]) is int  # type: ignore[index, call-overload]
    assert json_object(None, "args") == {}


@unfit
def test_given_args_that_json_can_not_hold_when_reserved_then_nothing_is_sent(
    alice: PulseCountClient, control: ScriptedControl, args: Any, told: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        alice.reserve(1, args=args)
    assert told in caught.value.message
    assert control.requests.seen == []


@unfit
def test_given_args_that_json_can_not_hold_when_evaluated_then_it_is_refused_at_once(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path], args: Any, told: str
) -> None:
    with alice.reserve(1) as boards:
        for evaluate in (boards.evaluate, boards.outcomes, boards.map, boards.map_outcomes):
            with pytest.raises(InvalidRequest) as caught:
                evaluate(circuits, args=args)
            assert told in caught.value.message
        with pytest.raises(InvalidRequest):
            alice.call(boards, None, "status", args)
    assert w1.calls.seen == []


@unfit
def test_given_annotations_that_json_can_not_hold_when_made_into_a_bitstream_then_it_is_refused(
    args: Any, told: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Bitstream.of(b"", "b1", args)
    assert told.replace("args", "b1: annotations") in caught.value.message


def test_given_names_that_are_no_text_when_evaluated_then_they_are_refused(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path], tmp_path: Path
) -> None:
    data = circuits[0].read_bytes()
    path = tmp_path / NOT_UNICODE
    path.write_bytes(data)
    with alice.reserve(1) as boards:
        for source in (path, (NOT_UNICODE, data), tmp_path / f"absent-{NOT_UNICODE}"):
            with pytest.raises(InvalidRequest) as caught:
                list(boards.evaluate([source]))
            assert "caf\\udce9.bin" in caught.value.message
            assert caught.value.info().model_dump_json()
    assert w1.evaluations.seen == []


def test_given_files_that_can_not_be_read_when_evaluated_then_the_error_names_them_once(
    tmp_path: Path,
) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(2 << 20)
    for path, told in ((large, "2,097,152 bytes are not"), (tmp_path / "absent", "No such file")):
        with pytest.raises((InvalidRequest, BitstreamInvalid)) as caught:
            Bitstream.read(path)
        assert caught.value.message.startswith(f"{path}: {told}")
        assert caught.value.details["path"] == str(path)


def test_given_a_defect_in_distributing_when_evaluated_then_the_run_fails_with_it(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    circuits: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    for method in ("due", "accepted", "complete"):
        with monkeypatch.context() as patched, alice.reserve(1) as boards:
            patched.setattr(EachBoard, method, defect)
            with pytest.raises(InternalError, match="a bug of ours"):
                list(boards.evaluate(circuits))


def test_given_a_defect_in_reading_outcomes_when_evaluated_then_the_run_fails_with_it(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    circuits: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(MeasuringBoards, "_on_outcome", defect)
    for run in ("evaluate", "map"):
        with alice.reserve(1) as boards, pytest.raises(InternalError, match="a bug of ours"):
            list(getattr(boards, run)(circuits))


def test_given_a_defect_in_calling_when_evaluated_then_every_bitstream_fails_with_it(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    circuits: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(BoardCalls, "_file", defect)
    with alice.reserve(1) as boards:
        failures = list(boards.evaluate_outcomes(circuits))
    assert [type(each.error) for each in failures] == [InternalError] * len(circuits)  # type: ignore[union-attr]


@pytest.fixture
def frequency_worker(broker: EmbeddedBroker) -> Iterator[FrequencyWorker]:
    made = FrequencyWorker(broker, "w1")
    yield made
    made.close()


def test_given_results_that_the_client_can_not_read_when_evaluated_then_they_are_failures(
    alice: PulseCountClient, frequency_worker: FrequencyWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1, kind=KIND) as boards:
        outcomes = list(boards.evaluate_outcomes(circuits))
    errors = [outcome.error for outcome in outcomes]  # type: ignore[union-attr]
    assert [type(error) for error in errors] == [RemoteError] * len(circuits)
    assert "pulses is missing" in errors[0].message
