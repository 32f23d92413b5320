"""A mistake in the code of a kind: it is told as that, and never taken for the board's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from icebus.schemas.errors import IcebusError, KindFailed

LONGEST_REASON = 500
"""Characters of what a kind raised that are passed on; the log has all of it."""


def kind_failed(kind: str, doing: str, mistake: BaseException) -> KindFailed:
    """The error that says so.

    Args:
        kind: whose code it is.
        doing: what the code was to do, as in ``result``.
        mistake: what it raised.
    """
    if isinstance(mistake, KindFailed):
        return mistake
    try:
        reason = repr(mistake)
    except Exception:  # noqa: BLE001 - what a package raises may be of its own making, too
        reason = type(mistake).__name__
    return KindFailed(
        f"kind {kind} failed in {doing}: {reason[:LONGEST_REASON]}; the board is well, the kind "
        "has to be mended",
        kind=kind,
    )


@contextmanager
def mistakes_of(kind: str, doing: str) -> Iterator[None]:
    """Run code of a kind; errors of icebus, which are its answers, pass.

    Raises:
        KindFailed: it raised anything else.
    """
    try:
        yield
    except IcebusError:
        raise
    except (Exception, SystemExit) as error:
        raise kind_failed(kind, doing, error) from error
