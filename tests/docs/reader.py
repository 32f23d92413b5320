"""Somebody who reads a document at a computer and types what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest
from tests.docs.reading import Block, Step, adapt, is_plain, learn, learn_in_any_order, shape

from icebus.client.cli import main

BIN = Path(sys.executable).parent

TIMEOUT = 60.0
"""Seconds within which anything here happens on a busy machine."""

CARRIED = ("ICEBUS_URL", "ICEBUS_FARM", "ICEBUS_RESERVATION")
"""Variables that the reader may export, and that commands run in this process must know too."""


class Shell:
    """A bash that stays, so that variables and jobs do.

    Args:
        folder: in which it is.
        environment: all of it.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._notes = folder.with_name(f"{folder.name}-shell")
        self._notes.mkdir()
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._watchdog: threading.Timer | None = None

    def run(self, command: str) -> tuple[int, str, str]:
        """Run a command to its end: its exit code, and what it wrote to stdout and stderr."""
        out, err = self._notes / "stdout", self._notes / "stderr"
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        watchdog = threading.Timer(TIMEOUT, self._bash.kill)
        watchdog.start()
        self._bash.stdin.write(f"{{\n{command}\n}} </dev/null >'{out}' 2>'{err}'; echo $?\n")
        self._bash.stdin.flush()
        answer = self._bash.stdout.readline()
        watchdog.cancel()
        assert answer, f"no end of {command!r} in {TIMEOUT:g} s; stderr: {err.read_text()}"
        return int(answer), out.read_text(), err.read_text()

    def expand(self, command: str) -> list[str]:
        """The words of a command after the shell has put in variables and files."""
        code, out, err = self.run(f"printf '%s\\0' {command}")
        assert code == 0, err
        return out.split("\0")[:-1]

    def exported(self, names: Sequence[str]) -> dict[str, str]:
        """Those variables that have a value."""
        _, out, _ = self.run("printf '%s\\0' " + " ".join(f'"${{{name}-}}"' for name in names))
        values = out.split("\0")
        return {name: value for name, value in zip(names, values, strict=False) if value}

    def close(self) -> None:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.wait(timeout=TIMEOUT)
        self._bash.stdout.close()


class Reader:
    """Does what a document says, and holds it to what it shows.

    Commands run in a real shell; a plain ``icebus …`` runs in this process with the words that the
    shell made of it, because starting a program takes most of a second. Python blocks run one after
    the other in one namespace, as at the prompt.

    Attributes:
        folder: in which everything happens.
        ids: which id here stands for which of the document.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self.ids: dict[str, str] = {}
        self.environment = dict(environment)
        self.shell = Shell(folder, environment)
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._namespace: dict[str, Any] = {"__name__": "__main__"}
        for name in CARRIED:
            monkeypatch.delenv(name, raising=False)
        for name in ("HOME", "XDG_STATE_HOME", "PATH"):
            monkeypatch.setenv(name, environment[name])
        monkeypatch.chdir(folder)

    def save(self, block: Block) -> None:
        """Put a block into the file that it names."""
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def type(self, step: Step, change: Callable[[str], str] = str) -> None:
        """Run a command to its end. It has to succeed, and to show what the document does."""
        command = change(adapt(step.command, self.ids))
        if is_plain(command) and command.startswith("icebus ") and "--" not in command.split():
            code, out, err = self._here(self.shell.expand(command))
        else:
            code, out, err = self.shell.run(command)
        told = f"{step.where}: $ {command}\nexit code {code}\nstdout:\n{out}\nstderr:\n{err}"
        assert code == 0, told
        self._compare(step.shown, [out, err + out, out + err], told)

    def listen(self, step: Step) -> None:
        """Run a command that has no end until it has shown all lines that the document does."""
        # `env` for what stands before the command, such as NAME=value.
        argv = ["env", *self.shell.expand(adapt(step.command, self.ids))]
        path = self.folder.with_name(f"{self.folder.name}-listener")
        with path.open("w+") as output, _running(argv, self.folder, self.environment, output) as it:

            def shown() -> bool:
                text = path.read_text()
                if it.poll() is not None:
                    raise AssertionError(f"{step.where}: it ended: {text}")
                ids = learn_in_any_order(step.shown, text) if text else None
                self.ids.update(ids or {})
                return ids is not None

            documented = "\n".join(step.shown)
            wait_until(shown, lambda: f"{step.where}: not all of\n{documented}\n{path.read_text()}")

    def execute(self, block: Block, shown: Sequence[str] = ()) -> None:
        """Run Python, in the namespace that earlier blocks have left."""
        self._capsys.readouterr()
        try:
            exec(compile(block.text, block.where, "exec"), self._namespace)  # what it is about
        except Exception as error:
            error.add_note(f"in {block.where}:\n{block.text}")
            raise
        out = self._capsys.readouterr().out
        self._compare(shown, [out], f"{block.where}: it printed\n{out}")

    def close(self) -> None:
        self.shell.close()

    def _here(self, argv: Sequence[str]) -> tuple[int, str, str]:
        with self._monkeypatch.context() as patch:
            for name, value in self.shell.exported(CARRIED).items():
                patch.setenv(name, value)
            return run_here(main, argv, patch, self._capsys)

    def _compare(self, shown: Sequence[str], candidates: Sequence[str], told: str) -> None:
        if not shown:
            return
        wanted = shape(shown)
        for text in candidates:
            if (found := wanted.fullmatch(text)) is not None:
                self.ids.update(learn(shown, found))
                return
        documented = "\n".join(shown)
        raise AssertionError(f"{told}\nthe document shows\n{documented}\nas {wanted.pattern}")


def run_here(
    program: Callable[[], None],
    argv: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str, str]:
    """Run the entry point of a program of ours: its exit code, stdout and stderr."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", list(argv))
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            program()
    finally:
        signal.signal(signal.SIGTERM, before)
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.replace("\r\n", "\n"), err


@contextlib.contextmanager
def _running(
    argv: Sequence[str], folder: Path, environment: Mapping[str, str], output: IO[str]
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], told: Callable[[], str]) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < until, told()
        time.sleep(0.02)


def environment_of(home: Path) -> dict[str, str]:
    """That of somebody whose home is ``home``, with our programs on the path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ICEBUS_") and name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    }
    return {
        **kept,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TMPDIR": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }


def quick(command: str) -> str:
    """``icebus up`` with boards whose second is over in a moment."""
    return re.sub(r"^icebus up\b", "icebus up --speedup 20 --bandwidth 0", command)
