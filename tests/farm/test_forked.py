"""A program that forks while it has a client: the child has none, and the parent goes on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.farm.conftest import Machine

PROGRAM = """
import os, pathlib, sys, time
from icebus.client import PulseCountClient

data = pathlib.Path(sys.argv[1]).read_bytes()

def child(work):
    begin = time.monotonic()
    if not (pid := os.fork()):
        work()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    assert time.monotonic() - begin < 4

def refused(ask):
    def work():
        try:
            ask()
        except Exception as error:
            print(type(error).__name__, flush=True)
    return work

with PulseCountClient() as client, client.reserve(1) as boards:
    run = boards.evaluate(data for _ in range(5))
    next(run)
    for ask in (
        lambda: list(boards.evaluate([data])),
        lambda: list(boards.map([data])),
        lambda: list(boards.collect()),
        lambda: next(run),
        client.devices,
        client.kinds,
        client.reserve,
        boards.release,
        lambda: boards.extend(60),
        lambda: client.call(boards, None, "evaluate"),
        lambda: client.on("results"),
    ):
        child(refused(ask))
    child(lambda: (boards.close(), client.close()))
    if not (pid := os.fork()):
        sys.exit(7)
    begin = time.monotonic()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7 and time.monotonic() - begin < 4
    print(len(list(run)), len(list(boards.evaluate([data]))))
"""


def test_given_a_client_when_its_program_forks_then_the_child_is_told_and_the_parent_goes_on(
    machine: Machine, circuits: Sequence[Path]
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(circuits[0])]
    done = machine.run("up", "--boards", "1", "--speedup", "50", "--", *command)
    assert done.returncode == 0, done.stderr
    *refusals, counts = done.stdout.splitlines()
    assert refusals == ["ClientClosed"] * 11
    assert counts == "4 1"
    assert "could not release" not in done.stderr
    assert "lost the broker" not in done.stderr
