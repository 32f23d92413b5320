"""The map of rooms in docs/architecture.md: every package with its first line and its modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

HOUSES = ("schemas", "broker", "control", "worker", "client")
"""Folders with packages, in the order of their dependencies."""

UNLISTED = frozenset({"__init__", "__main__"})


def room_map() -> str:
    """All rooms as a table."""
    lines = ["| room | what for | modules |", "| --- | --- | --- |"]
    lines += [
        f"| `{room}` | {purpose(path)} | {', '.join(modules(path))} |" for room, path in rooms()
    ]
    return "\n".join(lines) + "\n"


def rooms() -> Iterator[tuple[str, Path]]:
    """Each package, with its dotted name and its folder."""
    for house in HOUSES:
        for init in sorted((ROOT / house / "icebus").rglob("__init__.py")):
            yield ".".join(init.parent.relative_to(ROOT / house).parts), init.parent


def purpose(package: Path) -> str:
    """The first line of a package's docstring."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    return text.split("\n", maxsplit=1)[0].replace("``", "`")


def modules(package: Path) -> list[str]:
    """The modules that stand in a package itself."""
    return sorted(path.stem for path in package.glob("*.py") if path.stem not in UNLISTED)
