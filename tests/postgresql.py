"""A PostgreSQL server for tests; without one they are skipped, and fail in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from bench.postgresql import NO_POWER_CUTS, PostgresServer, programs

__all__ = ["PostgresServer", "serve"]

QUICK = {**NO_POWER_CUTS, "synchronous_commit": "off"}
"""Nothing here has to survive the server either, unless it is stopped in order."""


def serve() -> Iterator[PostgresServer]:
    """A server for as long as the tests of this process run: the body of a fixture."""
    where = programs()
    if where is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: script/bootstrap --postgresql")
        pytest.skip("PostgreSQL is not installed: script/bootstrap --postgresql")
    server = PostgresServer(where, QUICK)
    try:
        server.start()
        yield server
    finally:
        server.remove()
