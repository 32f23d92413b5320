"""Verdicts on health: severities, the line that people read, and what programs read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.supervision.facts import Space, space_at
from icebus.schemas.supervision.health import (
    Finding,
    Severity,
    Verdict,
    judge_certificate,
    judge_clock,
    judge_space,
)

DAY = 86_400.0
GIB = 1 << 30
NOW = 1_800_000_000.0

findings = st.lists(
    st.builds(Finding, st.sampled_from(["a", "b"]), st.sampled_from(Severity), st.text()),
    max_size=5,
)


@given(findings)
def test_given_findings_then_the_verdict_is_one_printable_line_as_bad_as_the_worst(
    found: list[Finding],
) -> None:
    verdict = Verdict.of("worker lab1", found)
    said = {each.severity for each in found}

    assert verdict.line.isprintable()
    assert verdict.line.startswith(f"{verdict.severity.name} worker lab1: ")
    assert verdict.severity in (said or {Severity.UNKNOWN})
    if Severity.CRITICAL in said:
        assert verdict.severity is Severity.CRITICAL
    document = json.loads(json.dumps(verdict.document))
    assert document["code"] == int(verdict.severity)
    assert len(document["checks"]) == len(found)


def test_given_something_wrong_then_the_line_says_that_first_and_not_what_is_well() -> None:
    verdict = Verdict.of(
        "control main",
        [
            Finding("a", Severity.OK, "fine"),
            Finding("b", Severity.WARNING, "odd"),
            None,
            Finding("c", Severity.CRITICAL, "broken"),
        ],
    )

    assert verdict.line == "CRITICAL control main: broken; odd"


@pytest.mark.parametrize(
    ("space", "severity"),
    [
        (Space(Path("/x"), 5 * GIB), Severity.OK),
        (Space(Path("/x"), GIB // 2), Severity.WARNING),
        (Space(Path("/x"), 1 << 20), Severity.CRITICAL),
        (Space(Path("/x"), 5 * GIB, files=3), Severity.CRITICAL),
        (Space(Path("/x"), problem="gone"), Severity.UNKNOWN),
    ],
)
def test_given_a_disk_then_what_is_left_of_it_is_judged(space: Space, severity: Severity) -> None:
    assert judge_space(space).severity is severity


def test_given_a_folder_that_is_not_there_yet_then_its_disk_is_that_of_where_it_would_be(
    tmp_path: Path,
) -> None:
    there = space_at(tmp_path / "not" / "yet")

    assert there.free > 0
    assert not there.problem


@pytest.mark.parametrize(
    ("days", "severity"),
    [(400, Severity.OK), (29, Severity.WARNING), (-1, Severity.CRITICAL)],
)
def test_given_a_certificate_then_it_is_warned_of_before_it_ends(
    days: int, severity: Severity
) -> None:
    found = judge_certificate("the broker's certificate", NOW + days * DAY, NOW)

    assert found is not None
    assert found.severity is severity
    assert judge_certificate("none", None, NOW) is None


def test_given_a_clock_then_one_before_the_installation_or_unlike_anothers_is_wrong() -> None:
    assert judge_clock(NOW, NOW - DAY).severity is Severity.OK
    assert judge_clock(0.0, NOW).severity is Severity.CRITICAL
    assert judge_clock(NOW, NOW, ("the database", NOW + 60)).severity is Severity.WARNING
    assert judge_clock(NOW, NOW, ("the database", NOW + 1)).severity is Severity.OK
