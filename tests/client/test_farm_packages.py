"""A farm on a machine that lacks what its parts are made of."""

from __future__ import annotations

import pytest

from icebus.client.local_farm import farm
from icebus.schemas.errors import ProgramMissing


def test_given_packages_that_are_missing_when_a_farm_is_to_start_then_what_brings_them_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    farm.check_packages()
    monkeypatch.setattr(farm, "PACKAGES", ("sqlalchemy", "no_such_package"))
    with pytest.raises(ProgramMissing, match=r"'all'.*\(no_such_package missing\): `"):
        farm.check_packages()
