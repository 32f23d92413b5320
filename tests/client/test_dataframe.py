"""Outcomes as a table."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from icebus.client import PulseCountResult, summarise, to_dataframe
from icebus.client._evaluating.outcomes import EvaluationsFailed
from icebus.schemas.errors import InvalidRequest, MeasurementFailed, ProgramMissing
from icebus.schemas.measuring import Failure, Result

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)


def measured(bitstream: str, pulses: int, **more: Any) -> PulseCountResult:
    return PulseCountResult(
        serial="d1", evaluation="e", batch="b", bitstream=bitstream, sha256="0" * 64, at=AT,
        pulses=pulses, upload=0.1, window=1.0, exact=True, **more,
    ).with_source(b"the bitstream's bytes")  # fmt: skip


def failed(bitstream: str, **more: Any) -> Failure:
    return Failure(
        serial="d1", evaluation="e", batch="b", bitstream=bitstream, sha256="0" * 64, at=AT,
        error=MeasurementFailed("silence"), **more,
    )  # fmt: skip


def test_given_outcomes_then_each_is_a_row_with_types_that_gaps_do_not_change() -> None:
    frame = to_dataframe(
        [measured("a", 5, pin_pulses={27: 5, 25: 0}), failed("b"), measured("c", 2**53 + 1)]
    )
    assert list(frame.bitstream) == ["a", "b", "c"]
    assert list(frame.pulses.dropna()) == [5, 2**53 + 1]
    assert str(frame.pulses.dtype) == "Int64"
    assert str(frame["exact"].dtype) == "boolean"
    assert list(frame["pin_pulses.27"].dropna()) == [5]
    assert list(frame["error"].dropna()) == ["measurement_failed"]
    assert list(frame["message"].dropna()) == ["silence"]
    assert frame["at"].dt.tz is not None
    assert frame["at"][0] == AT
    assert "source" not in frame
    assert not any(b"bytes" in each for each in frame.to_numpy().ravel() if isinstance(each, bytes))


def test_given_annotations_then_each_is_a_column_and_none_takes_the_place_of_another() -> None:
    frame = to_dataframe(
        [
            measured("a", 5, annotations={"generation": 1, "pulses": "mine", "error": "mine"}),
            failed("b", annotations={"generation": 2, "annotations.pulses": "too"}),
        ]
    )
    assert list(frame.generation) == [1, 2]
    assert list(frame.pulses.dropna()) == [5]
    assert list(frame["annotations.pulses"]) == ["mine", "too"]
    assert frame["annotations.error"][0] == "mine"
    assert list(frame.columns[:2]) == ["bitstream", "serial"]


def test_given_a_run_that_ends_with_failures_then_nothing_is_lost() -> None:
    def run() -> Iterator[Result]:
        yield measured("a", 5)
        raise EvaluationsFailed.of([failed("b")], 1, 2)

    frame = to_dataframe(run())
    assert list(frame.bitstream) == ["a", "b"]
    assert list(frame["error"].dropna()) == ["measurement_failed"]


def test_given_failures_for_one_reason_then_the_error_says_it_once_and_how_often() -> None:
    other = failed("z").model_copy(update={"error": MeasurementFailed("garbage")})
    error = EvaluationsFailed.of([failed("a"), failed("b"), other, failed("c")], 5, 9)

    assert error.message == (
        "5 of 9 evaluations failed: a on d1: silence (3 times); z on d1: garbage; and 1 more"
    )


def test_given_repeats_when_summed_up_then_each_bitstream_is_a_row() -> None:
    summaries = summarise([measured("a", 5), measured("a", 9), failed("a")], "pulses")
    (row,) = to_dataframe(summaries).to_dict("records")
    assert (row["n"], row["median"], row["spread"], row["failures"]) == (2, 7, 4, 1)


def test_given_nothing_then_the_table_is_empty_and_has_columns() -> None:
    frame = to_dataframe([])
    assert len(frame) == 0
    assert {"bitstream", "serial", "at"} <= {*frame.columns}


@pytest.mark.parametrize("wrong", [measured("a", 5), [measured("a", 5), 7], 7, "a.bin", None])
def test_given_what_is_no_outcome_then_it_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"int|str|NoneType|PulseCountResult"):
        to_dataframe(wrong)


def test_given_what_an_async_client_yields_then_it_is_said_how_to_take_it_first() -> None:
    async def outcomes() -> AsyncIterator[Result]:
        yield measured("a", 5)

    given: Any = outcomes()
    with pytest.raises(InvalidRequest, match="async for"):
        to_dataframe(given)


def test_given_no_pandas_then_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ProgramMissing, match=r"table of results.*pandas"):
        to_dataframe([])


def test_given_a_table_then_arrow_takes_it() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    frame = to_dataframe([measured("a", 5, pin_pulses={27: 5}), failed("b")])
    assert pyarrow.Table.from_pandas(frame).num_rows == 2
