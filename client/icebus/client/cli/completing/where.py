"""Which broker a completion looks at, and as whom: profiles, read without their models.

What the commands do with names of farms is said by :mod:`icebus.client._profiles.profile`, and
tested to be the same. A farm that is not up any more need not be told: its broker does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from platformdirs import user_state_path

LARGEST = 1 << 20
"""Bytes of a credentials file."""

ROOT = "icebus/v1"
"""Of topics, where the URL has no path."""


@dataclass(frozen=True)
class Broker:
    """Where it is, and who we are there; as :class:`icebus.bus.BrokerAddress` has it."""

    host: str
    port: int
    login: str
    password: str = field(repr=False)
    root: str
    tls: bool
    ca: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    @property
    def user(self) -> str:
        """Who has that login."""
        return self.login.partition(".")[0]


def find_broker(named: str | None, environment: Mapping[str, str]) -> Broker:
    """The broker of the farm that is meant.

    Raises:
        OSError: there is no such file.
        ValueError: it is none.
    """
    if named is None:
        if url := environment.get("ICEBUS_URL"):
            return _parse(url, {}) if "://" in url else _read(Path(url))
        named = environment.get("ICEBUS_FARM") or None
    return _read(_default_profile() if named is None else _profile_of(named, environment))


def saved_farms() -> list[str]:
    """Names of farms that are stored here."""
    return _names(_state() / "profiles")


def local_users(environment: Mapping[str, str]) -> list[str]:
    """Users of this machine's farm, who are named as farms are."""
    return _names(_this_farm(environment) / "profiles")


def _names(folder: Path) -> list[str]:
    return sorted(each.stem for each in folder.glob("*.json"))


def _state() -> Path:
    return user_state_path("icebus")


def _default_profile() -> Path:
    folder = _state() / "profiles"
    try:
        current = folder / f"{(folder / 'current').read_text().strip()}.json"
    except OSError:
        pass
    else:
        if current.exists():
            return current
    default = _state() / "profile.json"
    names = saved_farms()
    return folder / f"{names[0]}.json" if not default.exists() and len(names) == 1 else default


def _profile_of(named: str, environment: Mapping[str, str]) -> Path:
    if "/" in named or Path(named).exists():
        return Path(named)
    stored = _state() / "profiles" / f"{named}.json"
    if stored.exists():
        return stored
    return _this_farm(environment) / "profiles" / f"{named}.json"


def _this_farm(environment: Mapping[str, str]) -> Path:
    """The farm whose users are known by name."""
    chosen = environment.get("ICEBUS_FARM", "")
    for path in ([Path(chosen)] if "/" in chosen else []) + [_state() / "profile.json"]:
        try:
            farm = _contents(path).get("farm")
        except (OSError, ValueError):
            continue
        if isinstance(farm, str):
            return Path(farm)
    return _state() / "farm"


def _contents(path: Path) -> Mapping[str, object]:
    with path.open("rb") as file:
        said = json.loads(file.read(LARGEST))
    if not isinstance(said, dict):
        raise ValueError("a profile is an object")  # noqa: TRY004 - as of all other nonsense
    return said


def _read(path: Path) -> Broker:
    said = _contents(path)
    return _parse(str(said.get("url")), said)


def _parse(url: str, said: Mapping[str, object]) -> Broker:
    parts = urlsplit(url)
    tls = parts.scheme == "mqtts"
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not parts.username:
        raise ValueError("no broker's URL")

    def text(name: str) -> str | None:
        value = said.get(name)
        return value if isinstance(value, str) else None

    return Broker(
        host=parts.hostname,
        port=parts.port or (8883 if tls else 1883),
        login=unquote(parts.username),
        password=text("password") or unquote(parts.password or ""),
        root=parts.path.strip("/") or ROOT,
        tls=tls,
        ca=text("ca"),
        certificate=text("certificate"),
        key=text("key"),
    )
