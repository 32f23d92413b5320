"""Which command runs, and what its arguments are called on the command line."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from typer.core import TyperCommand

_RUNNING: ContextVar[TyperCommand | None] = ContextVar("running", default=None)


class Command(TyperCommand):
    """A command that is remembered once it runs, so that errors can name its options."""

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        _RUNNING.set(self)
        return super().invoke(ctx)


def called(argument: str) -> str:
    """What an argument of the library is called on the command line; itself where it has no option.

    Args:
        argument: as the library has it, such as ``serials``.
    """
    command = _RUNNING.get()
    params = {str(each.name): each for each in command.params} if command is not None else {}
    also = (argument, argument.removesuffix("s"), f"{argument}s")
    param = next((params[name] for name in also if name in params), None)
    if param is None:
        return argument
    if param.param_type_name == "option":
        return max(param.opts, key=len)
    return argument.upper()
