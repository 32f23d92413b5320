"""How to install more of icebus, wherever it came from and whatever installed it."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

from icebus.schemas.errors import ProgramMissing
from icebus.schemas.programs.installation import (
    EXTRAS,
    Installation,
    Origin,
    here,
    lacks,
    not_importable,
    required_by,
)

ROOT = Path(__file__).parents[2]
REQUIREMENTS = [
    "paho-mqtt>=2.1",
    'cryptography>=44; extra == "all"',
    "numpy>=1.26; extra == 'virtual'",
    "watchdog>=4.0; extra == 'virtual'",
    "nosuchsystem>=1; (sys_platform == 'cuneiform') and extra == 'virtual'",
    "matplotlib>=3.8; extra == 'plot'",
    "icebus[plot,virtual]; extra == 'examples'",
]
WHEEL = Origin("file:///w/icebus-0.1.0-py3-none-any.whl")


@pytest.fixture
def bare(tmp_path: Path) -> Installation:
    return Installation(tmp_path, "/e/bin/python", True, None, REQUIREMENTS, Path("/"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    script = tmp_path / "checkout" / "script" / "bootstrap"
    script.parent.mkdir(parents=True)
    script.touch()
    return tmp_path / "checkout"


def test_given_a_checkout_of_script_bootstrap_when_an_extra_lacks_then_it_is_that_script(
    bare: Installation, checkout: Path
) -> None:
    origin = Origin(checkout.as_uri(), checkout)
    ours = replace(bare, prefix=checkout / ".venv", origin=origin)

    assert ours.add_extra("virtual") == str(checkout / "script" / "bootstrap")
    assert replace(ours, current=checkout).add_extra("virtual") == "script/bootstrap"
    assert replace(ours, current=checkout).reinstall() == "script/bootstrap"


def test_given_a_checkout_in_another_environment_then_it_is_installed_in_place_with_the_extra(
    bare: Installation, checkout: Path
) -> None:
    ours = replace(bare, origin=Origin(checkout.as_uri(), checkout))

    command = ours.add_extra("virtual")

    assert command == f"/e/bin/python -m pip install --editable '{checkout}[virtual]'"


def test_given_a_wheel_when_an_extra_lacks_then_that_wheel_is_named(bare: Installation) -> None:
    command = replace(bare, origin=WHEEL).add_extra("virtual")

    assert shlex.split(command)[-1] == f"icebus[virtual] @ {WHEEL.url}"


@pytest.mark.parametrize("name", ["virtual", "examples"])
def test_given_an_index_or_what_is_gone_when_an_extra_lacks_then_what_it_requires_is_named(
    bare: Installation, name: str
) -> None:
    """Whoever asks an index for icebus may get nothing, or somebody else's."""
    words = shlex.split(bare.add_extra(name))

    assert {"numpy>=1.26", "watchdog>=4.0"} <= set(words)
    assert not any("icebus" in word or "cuneiform" in word for word in words)
    assert ("matplotlib>=3.8" in words) == (name == "examples")


def test_given_uv_without_pip_then_uv_is_told_which_environment(bare: Installation) -> None:
    uv = replace(bare, has_pip=False, origin=WHEEL)

    assert uv.add_extra("plot").startswith("uv pip install --python /e/bin/python ")

    beside = bare.prefix / "bin" / "uv"
    beside.parent.mkdir()
    beside.touch()
    assert uv.add_packages("psycopg2").startswith(f"{beside} pip install ")


def test_given_a_tool_of_uv_when_an_extra_lacks_then_those_it_has_are_kept(
    bare: Installation,
) -> None:
    (bare.prefix / "uv-receipt.toml").write_text(
        '[tool]\nrequirements = [{ name = "icebus", extras = ["plot"], url = "x" }]\n'
    )
    tool = replace(bare, has_pip=False, origin=WHEEL)

    assert tool.add_extra("virtual") == f"uv tool install 'icebus[plot,virtual] @ {WHEEL.url}'"


def test_given_pipx_then_packages_are_injected(bare: Installation) -> None:
    (bare.prefix / "pipx_metadata.json").write_text("{}")
    words = shlex.split(replace(bare, origin=WHEEL).add_extra("plot"))

    assert words == ["pipx", "inject", "icebus", "matplotlib>=3.8"]


def test_every_module_is_of_the_extra_that_requires_its_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    packages = packages_distributions()
    for module, extra in EXTRAS.items():
        required = names(extras[extra])
        # What they require in turn counts: SQLModel brings SQLAlchemy.
        required |= {more for each in required for more in names(distribution(each).requires or ())}
        # `usb` and others may have files of the same name at the top.
        assert required & {each.lower() for each in packages[module]}, module


def names(requirements: Iterable[str]) -> set[str]:
    return {re.split(r"[\[>=;<!~ (]", each)[0].lower() for each in requirements}


def test_given_this_installation_then_its_extras_are_known() -> None:
    ours = here()

    assert any(each.startswith("matplotlib") for each in required_by(ours.requirements, "plot"))
    assert {"numpy>=1.26", "pyserial>=3.5"} <= set(required_by(ours.requirements, "all"))


def test_given_a_module_that_lacks_then_the_error_names_module_extra_and_command() -> None:
    error = not_importable(ModuleNotFoundError("no", name="serial.tools"), "a worker")

    assert isinstance(error, ProgramMissing)
    assert all(word in error.message for word in ("a worker", "serial", "'worker'", "`"))
    assert error.details["extra"] == "worker"


def test_given_a_module_of_icebus_itself_when_it_lacks_then_icebus_is_installed_anew() -> None:
    error = not_importable(ModuleNotFoundError("no", name="icebus.nothing"), "a worker", "worker")

    assert "as it should be" in error.message


def test_given_an_extra_then_the_command_stands_in_the_message() -> None:
    assert here().add_extra("all") in lacks("all", "a farm", "numpy").message
