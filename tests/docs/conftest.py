"""A farm for readers of the documents, and the readers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.docs.reader import BIN, TIMEOUT, Reader, environment_of, quick, wait_until

from icebus.broker.mosquitto import find_program
from icebus.client import Client
from icebus.client._profiles.profile import default_profile_path
from icebus.schemas.errors import ProgramMissing

ROOT = Path(__file__).parents[2]
UP = "icebus up --boards 4 --user ann --user alice"
"""The farm that the documents have the reader bring up; who has another name there is here ann."""


@dataclass(frozen=True)
class Farm:
    """A farm that is up.

    Attributes:
        home: of the user that it belongs to.
        told: what `icebus up` said.
    """

    home: Path
    told: str

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.home)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """The farm that `icebus up` in the documents brings up, for all documents."""
    try:
        find_program("mosquitto")
    except ProgramMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.message)
    home = tmp_path_factory.mktemp("home")
    environment = environment_of(home)
    log = home / "up.log"
    argv = [str(BIN / word) if word == "icebus" else word for word in quick(UP).split()]
    with log.open("w") as output:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        wait_until(
            lambda: process.poll() is not None or "takes it down" in log.read_text(), log.read_text
        )
        assert process.poll() is None, log.read_text()
        yield Farm(home, log.read_text())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=TIMEOUT)


@pytest.fixture
def reader(
    farm: Farm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Reader]:
    """Somebody in a folder with the examples, on a farm that nobody else uses."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    made = Reader(folder, farm.environment, monkeypatch, capsys)
    with contextlib.closing(made):
        yield made
    until = time.monotonic() + TIMEOUT
    for user in ("ann", "alice"):
        with Client(farm=default_profile_path().parent / f"farm/profiles/{user}.json") as client:
            for held in client.reservations():
                client.end(held.id)
            while len(client.available("pulsecount")) < 4:
                assert time.monotonic() < until, "boards did not become free"
