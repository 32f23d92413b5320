"""A process that shows whoever runs in its directory a USB tree made up by a test: umockdev.

Run with ``LD_PRELOAD=libumockdev-preload.so.0`` it says its directory on the first line, then does
what each line on its standard input asks for, as JSON, and says ``ok`` or what was wrong. It is a
process of its own because it must run with umockdev's library loaded first.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FULL = 30.0
"""Seconds that receivers may take to make room for an event."""

Pointer, Text = ctypes.c_void_p, ctypes.c_char_p


class Testbed:
    """What is needed of ``libumockdev.so.0``."""

    __test__ = False

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libumockdev.so.0")
        self._glib = ctypes.CDLL("libgobject-2.0.so.0")
        signatures: dict[str, tuple[list[Any], Any]] = {
            "new": ([], Pointer),
            "get_root_dir": ([Pointer], Text),
            "add_from_string": ([Pointer, Text, Pointer], ctypes.c_int),
            "remove_device": ([Pointer, Text], None),
            "uevent": ([Pointer, Text, Text], None),
            "set_attribute": ([Pointer, Text, Text, Text], None),
        }
        for name, (arguments, result) in signatures.items():
            function = getattr(self._library, f"umockdev_testbed_{name}")
            function.argtypes, function.restype = arguments, result
        self._glib.g_object_unref.argtypes = [Pointer]
        self._testbed = self._library.umockdev_testbed_new()

    @property
    def root(self) -> str:
        """Where the tree is."""
        root: bytes = self._library.umockdev_testbed_get_root_dir(self._testbed)
        return root.decode()

    def add(self, description: str) -> None:
        """Add a device, with an event."""
        path = "/sys" + description.partition("\n")[0].removeprefix("P: ")

        def add() -> None:
            error = Pointer()
            self._library.umockdev_testbed_add_from_string(
                self._testbed, description.encode(), ctypes.byref(error)
            )

        if not _in_child(add):
            if not Path(self.root + path).exists():
                raise ValueError(f"umockdev takes no such description: {description}")
            self._tell(path, b"add")

    def remove(self, path: str) -> None:
        """Remove a device, with an event."""
        self._tell(path, b"remove")
        self._library.umockdev_testbed_remove_device(self._testbed, path.encode())

    def change(self, path: str) -> None:
        """An event: something about a device has changed."""
        self._tell(path, b"change")

    def _tell(self, path: str, action: bytes) -> None:
        until = time.monotonic() + FULL
        while not _in_child(
            lambda: self._library.umockdev_testbed_uevent(self._testbed, path.encode(), action)
        ):
            if time.monotonic() > until:
                raise ValueError(f"nobody takes the event {action!r} of {path}")
            time.sleep(0.005)

    def close(self) -> None:
        """Remove the tree."""
        self._glib.g_object_unref(self._testbed)


def _in_child(step: Callable[[], None]) -> bool:
    """Whether a step succeeds: umockdev ends the process where a receiver's queue is full."""
    child = os.fork()
    if child == 0:
        step()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Do what is asked for, until nobody asks any more."""
    testbed = Testbed()
    steps = {"add": testbed.add, "remove": testbed.remove, "change": testbed.change}
    print(testbed.root, flush=True)  # noqa: T201
    for line in sys.stdin:
        step, argument = json.loads(line)
        try:
            steps[step](argument)
        except ValueError as error:
            print(json.dumps(str(error)), flush=True)  # noqa: T201
        else:
            print("ok", flush=True)  # noqa: T201
    testbed.close()


if __name__ == "__main__":
    main()
