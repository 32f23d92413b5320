"""The health of a rack: what is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icebus.rack.health import Facts, judge, look
from icebus.schemas.supervision.facts import Space
from icebus.schemas.supervision.health import Severity

WELL = Facts(
    directory=Path("/rack"),
    runs=True,
    plugged=("1-1.1", "1-1.2"),
    present=frozenset({"1-1.1", "1-1.2"}),
    faults={},
    problem="",
    space=Space(Path("/rack"), 5 << 30),
    now=2.0,
    installed=1.0,
)


@pytest.mark.parametrize(
    ("changed", "severity", "says"),
    [
        ({}, Severity.OK, "2 boards there"),
        ({"runs": False}, Severity.CRITICAL, "no rack runs"),
        ({"present": frozenset()}, Severity.CRITICAL, "none of 2 boards"),
        ({"present": frozenset({"1-1.1"})}, Severity.WARNING, "1-1.2 absent"),
        ({"faults": {"1-1.1": "hang"}}, Severity.WARNING, "1-1.1 (hang)"),
        ({"plugged": ()}, Severity.WARNING, "no boards are plugged"),
        ({"problem": "rack.json is no JSON"}, Severity.WARNING, "no JSON"),
    ],
)
def test_given_a_rack_then_what_is_wrong_with_it_is_said(
    changed: dict[str, Any], severity: Severity, says: str
) -> None:
    verdict = judge(replace(WELL, **changed))

    assert verdict.severity is severity
    assert says in verdict.line


def test_given_a_folder_without_a_rack_then_that_is_critical(tmp_path: Path) -> None:
    (tmp_path / "rack.json").write_text("{")

    assert look(tmp_path).severity is Severity.CRITICAL
