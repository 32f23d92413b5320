"""Profiles: files that say where a farm is and who we are there.

A profile is a credentials file that may also name its farm's directory. `icebus up` writes one
for each principal of its farm, and a default one that clients on this machine find by themselves.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import Field, PrivateAttr

from icebus.bus import BrokerAddress, Credentials
from icebus.client._profiles.farm_directory import (
    how_to_start,
    is_up,
    profile_path,
    state_directory,
)
from icebus.client._profiles.saved_profiles import SavedProfiles
from icebus.schemas.errors import NoProfile
from icebus.schemas.ids import Login, is_id

URL_VARIABLE = "ICEBUS_URL"
FARM_VARIABLE = "ICEBUS_FARM"

_HOW = (
    "start a farm on this machine with `icebus up`, or give `icebus login` the line that you were "
    f"given for one (or name a credentials file in {FARM_VARIABLE})"
)


class Profile(Credentials):
    """Where a broker is, and who we are there.

    Attributes:
        farm: the directory of the farm that wrote this; None for one elsewhere.
        password: where it is not in the URL.
        next_password: one that was chosen and asked for; whether it counts already is not known.
        next_login: the name to log in under with it.
    """

    farm: Path | None = None
    password: str | None = Field(default=None, repr=False)
    next_password: str | None = Field(default=None, repr=False)
    next_login: Login | None = Field(default=None, repr=False)
    _path: Path | None = PrivateAttr(default=None)

    @property
    def address(self) -> BrokerAddress:
        """The broker, and who we are there; read anew by whoever connects again."""
        address = BrokerAddress.of(self)
        if self.farm is not None:
            address = replace(address, started_by=how_to_start(self.farm))
        if self.password is not None:
            address = replace(address, password=self.password)
        path = self._path
        if path is None:
            return address
        return replace(
            address,
            reread=lambda: Profile.read(path).address,
            keep=partial(Profile.keep_authorities, path),
        )

    @property
    def path(self) -> Path | None:
        """The file that it was read from, if it was."""
        return self._path

    @property
    def with_next(self) -> Profile:
        """The same with the password that was asked for, as if it counted already."""
        url = self.url
        if self.next_login is not None:
            address = replace(BrokerAddress.of(self), password="", login=self.next_login)
            url = address.url()
        return self.model_copy(
            update={
                "url": url,
                "password": self.next_password,
                "next_password": None,
                "next_login": None,
            }
        )

    @classmethod
    def read(cls, path: Path) -> Profile:
        """The profile in a file.

        Raises:
            NoProfile: there is no such file.
            InvalidRequest: it is not a profile.
        """
        if not path.exists():
            raise NoProfile(f"no profile at {path}; {_HOW}")
        found = super().read(path)
        found._path = path.absolute()
        return found


def default_profile_path() -> Path:
    """The profile that clients read when they are told nothing."""
    return state_directory() / "profile.json"


def find_address(
    url: str | None = None,
    farm: str | Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> BrokerAddress:
    """The broker and who we are there: as given, from the environment, or the default profile.

    Args:
        url: or the path of a credentials file; wins over everything.
        farm: name of a farm that is stored, or of a user of this machine's farm, or the path of
            a profile.
        environment: where ``ICEBUS_URL`` and then ``ICEBUS_FARM`` are looked up.

    Raises:
        NoProfile: nothing names a farm.
        InvalidRequest: the URL or the profile is broken.
    """
    if url is not None:
        return BrokerAddress.parse(url)
    if farm is None:
        if named := environment.get(URL_VARIABLE):
            return BrokerAddress.parse(named)
        farm = environment.get(FARM_VARIABLE) or None
    return find_profile(farm).address


def find_profile(farm: str | Path | None = None) -> Profile:
    """The profile of that path or name, or the default one.

    Raises:
        NoProfile: there is none.
        InvalidRequest: it is broken.
    """
    if farm is None:
        saved = SavedProfiles()
        if (current := saved.current) is not None:
            return Profile.read(saved.path(current))
        path = default_profile_path()
        if not path.exists():
            return _only_one(saved)
        found = Profile.read(path)
        if found.farm is not None and not is_up(found.farm):
            # Killed, it could not take its profile back.
            raise NoProfile(f"the farm in {found.farm} is not up any more; {_HOW}")
        return found
    if isinstance(farm, str) and is_id(farm) and not Path(farm).exists():
        saved = SavedProfiles()
        if (stored := saved.path(farm)).exists():
            return Profile.read(stored)
        directory = _this_farm()
        path = profile_path(directory, farm)
        if not path.exists():
            known = sorted(each.stem for each in path.parent.glob("*.json"))
            there = (
                f"the farm in {directory} has the profiles {', '.join(known)}" if known else _HOW
            )
            names = saved.names
            near = difflib.get_close_matches(farm, [*names, *known], 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            stored_here = f"stored here are {', '.join(names)}; " if names else ""
            raise NoProfile(f"no farm is stored as {farm!r}{meant}; {stored_here}{there}")
        return Profile.read(path)
    return Profile.read(Path(farm))


def _only_one(saved: SavedProfiles) -> Profile:
    """The stored profile that must be meant.

    Raises:
        NoProfile: there is none, or there are several.
    """
    names = saved.names
    if not names:
        raise NoProfile(f"no farm is named and none runs on this machine; {_HOW}")
    if len(names) > 1:
        raise NoProfile(
            f"which farm? {', '.join(names)} are known here; choose one with `icebus profile use "
            "NAME`, or `icebus --farm NAME …` for one command"
        )
    return Profile.read(saved.path(names[0]))


def _this_farm() -> Path:
    """The farm whose profiles are known by name: the one in use here, else the usual place."""
    named = os.environ.get(FARM_VARIABLE)
    for path in ([Path(named)] if named and not is_id(named) else []) + [default_profile_path()]:
        if path.exists() and (farm := Profile.read(path).farm) is not None:
            return farm
    return state_directory() / "farm"
