"""The farm that tests run on, and what becomes of them where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from icebus.client import MeasuringClient
    from icebus.client.pytest_plugin._request import BoardRequest

NOT_IN_CI = ("", "0", "false", "no")
"""Values of the variable CI of those who are not."""


class Farm:
    """A farm, for tests.

    Attributes:
        named: its name, the path of a profile, or a URL; None for the one in use.
    """

    def __init__(self, named: str | None = None) -> None:
        if named is not None and "://" not in named and Path(named).exists():
            named = str(Path(named).absolute())  # tests change their folder
        self.named = named

    def __repr__(self) -> str:
        # A URL may have a password in it.
        return "Farm(…)" if self._is_url else f"Farm({self.named!r})"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that have programs, such as ``icebus``, find this farm."""
        if self.named is None:
            return {}
        return {"ICEBUS_URL" if self._is_url else "ICEBUS_FARM": self.named}

    def client(self, kind: str = "pulsecount") -> MeasuringClient[Any, Any]:
        """A client of it for a kind; close it, or use it as a context.

        Raises:
            NoProfile: nothing names a farm.
            BrokerUnavailable: nothing answers there.
            NotAuthorized: the broker refused the user or password.
        """
        from icebus.client.pytest_plugin._request import BoardRequest

        return self.connect(BoardRequest(kind=kind))

    def connect(self, request: BoardRequest) -> MeasuringClient[Any, Any]:
        """A client for what is asked for; raises as :meth:`client` does."""
        return request.client_class(
            **({"url": self.named} if self._is_url else {"farm": self.named})
        )

    def client_of(self, request: BoardRequest) -> MeasuringClient[Any, Any]:
        """A client for a test, which is skipped or fails where there can be none."""
        from icebus.schemas.errors import BrokerUnavailable, IcebusError, NoProfile

        try:
            return self.connect(request)
        except IcebusError as error:
            failed = error
        if isinstance(failed, (NoProfile, BrokerUnavailable)):
            _without_farm(failed.message)
        pytest.fail(f"[{failed.code}] {failed.message}", pytrace=False)

    def check(self) -> None:
        """Have all tests skipped or fail at once where there is no farm."""
        from icebus.client.pytest_plugin._request import BoardRequest

        self.client_of(BoardRequest()).close()

    @property
    def _is_url(self) -> bool:
        return self.named is not None and "://" in self.named


def _without_farm(why: str) -> NoReturn:
    if os.environ.get("CI", "").strip().lower() in NOT_IN_CI:
        pytest.skip(f"there is no farm to test on: {why}")
    pytest.fail(f"there is no farm to test on, and this is CI: {why}", pytrace=False)
