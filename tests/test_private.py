"""What an underscore in a path means: private to the package it stands in."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSES = ("schemas", "broker", "control", "worker", "client")


def sources() -> Iterator[tuple[str, Path]]:
    """Every module of ours, by its dotted name; a package by the name of its ``__init__``."""
    for house in HOUSES:
        for path in sorted((ROOT / house / "icebus").rglob("*.py")):
            yield ".".join(path.relative_to(ROOT / house).with_suffix("").parts), path
    for folder in ("examples",):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imported(tree: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports of ours, those of modules and of what is in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("icebus"):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("icebus"))


def owner_of_private(name: str) -> str | None:
    """The package that the first private part of a dotted name belongs to; None without one."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.startswith("_") and not part.startswith("__"):
            return ".".join(parts[:place])
    return None


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("icebus.bus.Bus", None),
        ("icebus.bus._bus.Bus", "icebus.bus"),
        ("icebus.client._evaluating.running.run.Run", "icebus.client"),
        ("icebus.schemas.ids._ID", "icebus.schemas.ids"),
        ("icebus.client.__version__", None),
    ],
)
def test_given_a_dotted_name_then_its_owner_is_the_package_before_the_underscore(
    name: str, owner: str | None
) -> None:
    assert owner_of_private(name) == owner


def test_given_all_modules_then_none_imports_what_is_private_to_another_package() -> None:
    trespasses = [
        f"{module} imports {name}"
        for module, path in sources()
        for name in imported(ast.parse(path.read_text()))
        if (owner := owner_of_private(name)) is not None
        and not f"{module}.".startswith(f"{owner}.")
    ]
    assert trespasses == []
