"""The tree of errors in docs/architecture.md, from their classes."""

from __future__ import annotations

from collections.abc import Iterator

from icebus.schemas import errors
from icebus.schemas.errors import IcebusError


def error_tree() -> str:
    """All errors that cross the bus, each under its parent, with its code and its first line."""
    rows = list(_rows(IcebusError, depth=0))
    width = max(len(name) for name, _ in rows)
    return "\n".join(["```text", *(f"{name:<{width}}  {about}" for name, about in rows), "```", ""])


def _rows(cls: type[IcebusError], depth: int) -> Iterator[tuple[str, str]]:
    about = (cls.__doc__ or "").split("\n", maxsplit=1)[0]
    yield f"{'  ' * depth}{cls.__name__} ({cls.code})", about.replace("``", "")
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _rows(below, depth + 1)
