"""Where `icebus login` keeps farms: a file for each, by name, and which of them is in use."""

from __future__ import annotations

import contextlib
from pathlib import Path

from icebus.client._profiles.farm_directory import state_directory
from icebus.schemas.errors import NoProfile
from icebus.schemas.ids import is_id
from icebus.schemas.programs.private_files import make_private_folder, write_private


class SavedProfiles:
    """The profiles of this account on this machine. All is its owner's only.

    Args:
        folder: where they are; the usual place when left out.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or state_directory() / "profiles"
        self._current = self.folder / "current"

    @property
    def names(self) -> list[str]:
        """Of all that there are, sorted."""
        return sorted(each.stem for each in self.folder.glob("*.json") if is_id(each.stem))

    @property
    def current(self) -> str | None:
        """The name of the one in use, if one was chosen."""
        try:
            name = self._current.read_text().strip()
        except OSError:
            return None
        return name if is_id(name) and self.path(name).exists() else None

    def path(self, name: str) -> Path:
        """Where the one of that name is, or would be."""
        return self.folder / f"{name}.json"

    def prepare(self) -> None:
        """Make the folder, for nobody else to look into."""
        make_private_folder(self.folder)
        self.folder.chmod(0o700)

    def use(self, name: str | None) -> None:
        """Make one the farm that is meant when none is named; None for this machine's own.

        Raises:
            NoProfile: there is none of that name.
        """
        if name is None:
            with contextlib.suppress(FileNotFoundError):
                self._current.unlink()
            return
        self.check(name)
        write_private(self._current, name + "\n")

    def remove(self, name: str) -> None:
        """Forget one.

        Raises:
            NoProfile: there is none of that name.
        """
        self.check(name)
        if self.current == name:
            self.use(None)
        self.path(name).unlink()

    def check(self, name: str) -> None:
        """Refuse a name that stands for nothing.

        Raises:
            NoProfile: it does.
        """
        if not is_id(name) or not self.path(name).exists():
            known = ", ".join(self.names) or "none"
            raise NoProfile(f"no farm is stored under {name!r}; there are: {known}")
