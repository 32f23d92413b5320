"""Somebody is removed from the broker of a farm: what they had ends, and others notice nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.farm.conftest import TIMEOUT, wait_until

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.schemas.topics import Role

if TYPE_CHECKING:
    from tests.farm.conftest import Machine, Up

BROKER = [sys.executable, "-m", "icebus.broker.cli.app"]


def remove(up: Up, name: str) -> None:
    done = subprocess.run(
        [*BROKER, "remove", name, "--no-wait", "-d", str(up.directory / "broker")],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=up.machine.environment,
    )
    assert done.returncode == 0, done.stderr


def test_given_somebody_who_evaluates_when_removed_then_they_are_told_and_their_boards_come_back(
    machine: Machine, circuits: Sequence[Path]
) -> None:
    with machine.up("--boards", "2", "--speedup", "20", "--user", "ben", "--user", "ann") as up:
        ann = ("--farm", str(up.directory / "profiles" / "ann.json"))
        held = machine.run(*ann, "reserve", "1", "--duration", "1h").stdout.strip()
        many = [str(circuits[0])] * 400
        evaluating = machine.start(*ann, "evaluate", "--reservation", held, *many, "-o", "jsonl")
        assert evaluating.stdout is not None
        assert evaluating.stdout.readline()
        bens = machine.start("map", "-n", "1", *many[:100], "-o", "jsonl")
        remove(up, "ann")

        _, told = evaluating.communicate(timeout=TIMEOUT)
        assert evaluating.returncode == 5
        assert "refused user 'ann'" in told
        counted, failed = bens.communicate(timeout=TIMEOUT)
        assert bens.returncode == 0, failed
        assert len(counted.splitlines()) == 100
        # The list of who there is may be as old as what was reserved last.
        wait_until(lambda: machine.json("reservations", "--all") == [], 30)
        ended = [row for row in machine.json("history", "-r", held) if row["event"] == "ended"]
        assert ["removed from the broker" in row["reason"] for row in ended] == [True]
        wait_until(lambda: len(machine.run("available", "-o", "name").stdout.split()) == 2)


def test_given_an_offer_when_its_receiver_is_removed_and_added_again_then_it_is_not_the_new_ones(
    machine: Machine,
) -> None:
    with machine.up("--boards", "1", "--user", "ben", "--user", "ann") as up:
        made = machine.run("reserve", "1", "--duration", "1h").stdout.strip()
        offered = machine.run("transfer", made, "ann")
        assert offered.returncode == 0, offered.stderr

        remove(up, "ann")
        files = BrokerDirectory(up.directory / "broker")
        files.add_principals([Principal(id="ann", role=Role.USER)])

        def what_is_left() -> list[tuple[str, object]]:
            found = machine.json("reservations", "--all")
            return [(each["id"], each.get("offer")) for each in found]

        wait_until(lambda: what_is_left() == [(made, None)], 30)
