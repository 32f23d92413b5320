"""The options of ``icebus`` itself, which may as well stand behind a command."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Annotated, Any

import typer

from icebus.client.cli.connecting import FARM
from icebus.client.cli.options.completion import complete_farm
from icebus.schemas.programs.logs import PLAIN, TIMED, log_to_stderr


def _verbose(*, hidden: bool) -> Any:
    return typer.Option(
        "--verbose",
        "-v",
        count=True,
        hidden=hidden,
        help="Log on stderr what the client does: connections, requests to control, "
        "reservations, evaluations sent. Twice: also calls of boards and each outcome.",
    )


def _farm(*, hidden: bool) -> Any:
    return typer.Option(
        "--farm",
        metavar="NAME|PATH",
        hidden=hidden,
        help="Another farm or user: a name that `icebus profile list` has, a user of this "
        "machine's farm, or the path of a profile.",
        autocompletion=complete_farm,
    )


Verbose = Annotated[int, _verbose(hidden=False)]
Farm = Annotated[str | None, _farm(hidden=False)]

_ADDED = (
    inspect.Parameter(
        "common_verbose",
        inspect.Parameter.KEYWORD_ONLY,
        default=0,
        annotation=Annotated[int, _verbose(hidden=True)],
    ),
    inspect.Parameter(
        "common_farm",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, _farm(hidden=True)],
    ),
)

_VERBOSITY: ContextVar[int] = ContextVar("verbosity", default=0)


def log_verbosely(verbosity: int) -> None:
    """Log errors only, or what the client does, or all of it."""
    _VERBOSITY.set(verbosity)
    level = logging.DEBUG if verbosity > 1 else logging.INFO if verbosity else logging.ERROR
    log_to_stderr(level, TIMED if verbosity else PLAIN)


def with_common_options(function: Callable[..., object]) -> Callable[..., object]:
    """A command that takes them too. Only the help of ``icebus`` itself lists them."""

    @wraps(function)
    def command(
        *args: object, common_verbose: int = 0, common_farm: str | None = None, **given: object
    ) -> object:
        if common_farm is not None:
            FARM.set(common_farm)
        if common_verbose:
            log_verbosely(_VERBOSITY.get() + common_verbose)
        return function(*args, **given)

    # As typer would read it, which does not look behind a signature that is given.
    own = inspect.signature(function, eval_str=True)
    whole = own.replace(parameters=[*own.parameters.values(), *_ADDED])
    command.__dict__["__signature__"] = whole
    added = {each.name: each.annotation for each in _ADDED}
    command.__annotations__ = {**function.__annotations__, **added}
    return command
