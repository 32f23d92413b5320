"""script/audit: fails for a known vulnerability, and for nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "script" / "audit"

UV = """#!/bin/sh
[ "$1" = tool ] || exit 0
[ -n "$FOUND" ] || { echo "a warning" >&2; echo "no route to host" >&2; exit 1; }
while [ "$1" != --output ]; do shift; done
printf '%s' "$FOUND" > "$2"
exit 1
"""
"""In the place of uv: what is found is told, or that nobody could be asked."""


def audit(folder: Path, found: object) -> subprocess.CompletedProcess[str]:
    (folder / "uv").write_text(UV)
    (folder / "uv").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    told = "" if found is None else json.dumps(found)
    return subprocess.run(
        [SCRIPT], env={"PATH": path, "FOUND": told}, capture_output=True, text=True, timeout=60
    )


def package(*flaws: dict[str, object]) -> dict[str, object]:
    return {"dependencies": [{"name": "good", "version": "1", "vulns": list(flaws)}]}


def test_given_no_advisories_then_it_says_so_and_is_content(tmp_path: Path) -> None:
    done = audit(tmp_path, None)

    assert done.returncode == 0
    assert "no advisories can be had: no route to host" in done.stderr


@pytest.mark.parametrize("fixed", [["2"], []])
def test_given_a_vulnerability_then_it_fails_and_names_it(fixed: list[str], tmp_path: Path) -> None:
    done = audit(tmp_path, package({"id": "PYSEC-1", "fix_versions": fixed}))

    assert done.returncode == 1
    assert "good 1: PYSEC-1" in done.stderr


def test_given_nothing_known_then_it_says_how_much_was_looked_at(tmp_path: Path) -> None:
    done = audit(tmp_path, package())

    assert done.returncode == 0
    assert "1 packages, 0 known vulnerabilities" in done.stderr
