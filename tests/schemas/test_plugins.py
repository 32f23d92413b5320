"""What other packages bring is taken, and their mistakes are theirs alone."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icebus.schemas.errors import ProgramMissing
from icebus.schemas.programs.plugins import installed_classes, require

GROUP = "icebus.test_group"

Install = Callable[..., None]


class Base:
    """What plugins have to be."""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package: its source, and its entry points by name."""

    def make(package: str, source: str, **entries: str) -> None:
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}:{what}" for name, what in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield make
    for module in set(sys.modules) - before:
        del sys.modules[module]


def source(*names: str) -> str:
    lines = [f"from {__name__} import Base"]
    lines += [f"class {name}(Base):\n    name = {name.lower()!r}" for name in names]
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Base.__module__])


def test_given_classes_of_packages_then_they_are_found_by_name(install: Install) -> None:
    install("some_plugins", source("Red", "Blue"), red="Red", blue="Blue")
    assert {name: found.__name__ for name, found in installed_classes(GROUP, Base).items()} == {
        "red": "Red",
        "blue": "Blue",
    }


@pytest.mark.parametrize(
    "broken",
    [
        "raise RuntimeError('at import')",
        "import no_such_module",
        "import sys; sys.exit(7)",
        "Wrong = 'a text'",
        "class Wrong: pass",
        "",
    ],
)
def test_given_a_package_with_a_mistake_then_the_others_are_found_and_it_is_logged(
    install: Install, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    install("broken_plugins", broken, wrong="Wrong")
    install("sound_plugins", source("Red"), red="Red")
    assert set(installed_classes(GROUP, Base)) == {"red"}
    assert "broken_plugins:Wrong" in caplog.text


def test_given_a_name_that_can_not_be_told_then_that_class_is_left_out(install: Install) -> None:
    install(
        "nameless_plugins", source("Red") + "\nclass Nameless(Base): pass", a="Red", b="Nameless"
    )
    found = installed_classes(GROUP, Base, lambda each: str(vars(each)["name"]))
    assert set(found) == {"red"}


def test_given_a_name_twice_then_one_is_taken_and_that_is_logged(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("first_plugins", source("Red"), same="Red")
    install("second_plugins", source("Blue"), same="Blue")
    assert len(installed_classes(GROUP, Base)) == 1
    assert "installed twice" in caplog.text


def test_given_what_is_ours_missing_when_required_then_the_error_says_how_to_install_it() -> None:
    require("red", {"red"}, GROUP)
    with pytest.raises(ProgramMissing, match="install icebus again"):
        require("red", set(), GROUP)
