"""Flashing with ``picotool``, Raspberry Pi's own program, where it is installed.

It reads back what it wrote (``-v``) and starts it (``-x``). It writes sectors in their order, so
one that is killed may leave an image that starts and is not whole: PICOBOOT goes before it.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from icebus.worker.hardware.bootloaders.bootloader import (
    BootloaderFailed,
    BootloaderUnreachable,
    StepLimit,
)
from icebus.worker.hardware.bootloaders.drive import SYSFS_DEVICES

PROGRAM: Final = "picotool"

POLL_SECONDS: Final = 0.1
"""Between looks at whether the program still has leave to run."""

END_SECONDS: Final = 2.0
"""For a program that was told to end; it is killed afterwards."""

_SHOWN: Final = 200
"""Characters of what it says that go into a reason."""

_NO_DEVICE: Final = "No accessible RP"
"""Begins what it says when it finds no board, or none that this user may use."""


class Picotool:
    """The bootloader of a board on USB.

    Args:
        path: USB port path of it.
        program: path of picotool.
        devices: where Linux shows USB devices: picotool wants an address, which is another at each
            enumeration.
    """

    def __init__(self, path: str, program: str, devices: Path = SYSFS_DEVICES) -> None:
        self._path = path
        self._program = program
        self._devices = devices

    def flash(self, image: bytes, limit: StepLimit) -> None:
        """Load, verify, start."""
        with tempfile.TemporaryDirectory(prefix="icebus-") as directory:
            file = Path(directory) / "image.uf2"
            file.write_bytes(image)
            self._run(["load", "-v", "-x", str(file)], limit)

    def reboot(self, limit: StepLimit) -> None:
        """Start what is in flash."""
        self._run(["reboot"], limit)

    def _run(self, words: list[str], limit: StepLimit) -> None:
        limit.check()
        command = [self._program, *words, *self._place()]
        with tempfile.TemporaryFile() as said, _started(command, said) as process:
            while process.poll() is None:
                limit.check()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
            said.seek(0)
            text = " ".join(said.read().decode(errors="replace").split())
        if process.returncode != 0:
            kind = BootloaderUnreachable if _NO_DEVICE in text else BootloaderFailed
            raise kind(f"{PROGRAM} {words[0]} failed: {text[-_SHOWN:] or process.returncode}")

    def _place(self) -> list[str]:
        folder = self._devices / self._path
        try:
            bus, address = (str(int((folder / name).read_text())) for name in ("busnum", "devnum"))
        except (OSError, ValueError):
            raise BootloaderUnreachable(
                f"the system shows no USB device at port {self._path}"
            ) from None
        return ["--bus", bus, "--address", address]


def find() -> str | None:
    """Where picotool is, if it is installed."""
    return shutil.which(PROGRAM)


@contextlib.contextmanager
def _started(command: list[str], said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The process of ``command``, which has ended when this has."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise BootloaderUnreachable(f"{command[0]} can't be run: {error.strerror}") from None
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
