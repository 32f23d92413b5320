"""What happens while a test's own thread takes outcomes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(what: Callable[..., None], *args: object) -> Iterator[None]:
    """Something that happens on another thread, and is over at the end of the block."""
    thread = threading.Thread(target=what, args=args)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()
