"""Where a client finds its farm."""

from __future__ import annotations

import fcntl
import stat
from pathlib import Path

import pytest

from icebus.bus._connection.reasons import of_exception
from icebus.client._profiles.farm_directory import (
    lock_path,
    profile_path,
    state_directory,
    usual_directory,
)
from icebus.client._profiles.profile import (
    Profile,
    default_profile_path,
    find_address,
    find_profile,
)
from icebus.schemas.errors import InvalidRequest, NoProfile

URL = "mqtt://alice:secret@127.0.0.1:1883/icebus/v1"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own, on which nothing runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ICEBUS_URL", "ICEBUS_FARM"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def full(url: str) -> str:
    """With port and root, as addresses write them."""
    return f"{url}:1883/icebus/v1"


def profile(url: str = URL, farm: Path | None = None) -> Profile:
    return Profile(url=url, user="alice", farm=farm)


def test_given_a_profile_when_written_then_only_its_owner_reads_the_same_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep" / "profile.json"
    profile(farm=tmp_path).write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Profile.read(path).model_dump() == profile(farm=tmp_path).model_dump()
    assert [each.name for each in path.parent.iterdir()] == ["profile.json"]
    assert "secret" not in repr(profile())


def test_given_a_farm_of_this_machine_or_another_when_its_broker_is_away_then_the_remedy_fits(
    tmp_path: Path,
) -> None:
    local = "mqtt://alice:secret@127.0.0.1"
    usual, elsewhere, login = (
        profile(local, usual_directory()).address,
        profile(local, tmp_path / "my farm").address,
        profile(local).address,
    )
    refused = ConnectionRefusedError(111, "Connection refused")

    assert "`icebus up` starts it" in of_exception(usual, refused).message
    told = of_exception(elsewhere, refused).message
    assert f"`icebus up --directory '{tmp_path}/my farm'` starts it" in told
    assert "icebus up" not in of_exception(login, refused).message


def test_given_nothing_when_looking_for_a_farm_then_the_error_names_the_remedy() -> None:
    with pytest.raises(NoProfile, match="icebus up"):
        find_address()


def test_given_all_of_them_when_looking_then_the_nearest_to_the_caller_wins(
    tmp_path: Path,
) -> None:
    profile("mqtt://default@h").write(default_profile_path())
    by_environment = tmp_path / "environment.json"
    profile("mqtt://environment@h").write(by_environment)
    given = tmp_path / "given.json"
    profile("mqtt://given@h").write(given)
    both = {"ICEBUS_URL": "mqtt://variable@h", "ICEBUS_FARM": str(by_environment)}
    assert find_address("mqtt://url@h", given, both).url() == full("mqtt://url@h")
    assert find_address(None, given, both).url() == full("mqtt://given@h")
    assert find_address(None, None, both).url() == full("mqtt://variable@h")
    assert find_address(None, None, {**both, "ICEBUS_URL": ""}).url() == full(
        "mqtt://environment@h"
    )
    assert find_address(None, None, {}).url() == full("mqtt://default@h")


def test_given_a_farm_here_when_a_principal_is_named_then_its_profile_is_found(
    tmp_path: Path,
) -> None:
    farm = tmp_path / "farm"
    profile("mqtt://observer@h").write(profile_path(farm, "observer"))
    profile(farm=farm).write(default_profile_path())
    assert find_profile("observer").url == "mqtt://observer@h"
    with pytest.raises(NoProfile, match="has the profiles observer"):
        find_profile("nobody")


def test_given_a_farm_that_was_killed_when_looking_then_nobody_waits_for_it(
    tmp_path: Path,
) -> None:
    farm = tmp_path / "farm"
    farm.mkdir()
    profile(farm=farm).write(default_profile_path())
    with pytest.raises(NoProfile, match="not up any more"):
        find_address()
    with lock_path(farm).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert find_address().url() == URL


def test_given_a_profile_in_the_environment_when_a_name_is_given_then_its_farm_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = tmp_path / "other"
    profile("mqtt://observer@h").write(profile_path(farm, "observer"))
    profile(farm=farm).write(profile_path(farm, "alice"))
    monkeypatch.setenv("ICEBUS_FARM", str(profile_path(farm, "alice")))
    assert find_profile("observer").url == "mqtt://observer@h"


def test_given_a_file_that_is_no_profile_when_read_then_it_is_refused_by_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / "broken.json"
    path.write_text("{}")
    with pytest.raises(InvalidRequest, match=r"broken\.json"):
        find_profile(path)
    with pytest.raises(NoProfile, match=r"missing\.json"):
        find_profile(tmp_path / "missing.json")


def test_given_a_home_when_asked_for_the_state_then_it_lies_there(state: Path) -> None:
    assert state in state_directory().parents
