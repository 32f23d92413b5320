"""The `icebus` command line, called in this process: starting one takes most of a second."""

from __future__ import annotations

import csv
import io
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from icebus.client.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """What a command that succeeded printed as JSON."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)

    def csv(self) -> list[dict[str, str]]:
        """What a command that succeeded printed as CSV."""
        assert self.code == 0, self.stderr
        return list(csv.DictReader(io.StringIO(self.stdout, newline=""), strict=True))


Icebus = Callable[..., Done]


@contextmanager
def in_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Icebus]:
    """Yields what runs a command; what commands set for all of a program is taken back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["icebus", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, told.out, told.err)

    log, end_of_thread = logging.getLogger(), threading.excepthook
    handlers, level = list(log.handlers), log.level
    yield run
    threading.excepthook = end_of_thread
    log.setLevel(level)
    for each in set(log.handlers) - set(handlers):
        # It writes to what stderr was in the test.
        log.removeHandler(each)
        each.close()
    for number, handler in before.items():
        signal.signal(number, handler)
