"""Runs something on another thread while a test's own thread takes outcomes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_background(run: Callable[..., None], *args: object) -> Iterator[None]:
    """Run something on another thread, which has to end by the end of the block."""
    thread = threading.Thread(target=run, args=args)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()
