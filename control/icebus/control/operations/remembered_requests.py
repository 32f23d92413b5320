"""From a request to its answer: known operation, valid arguments, done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from icebus.control.operations.users import OPERATIONS, Operation
from icebus.control.store.tables import RequestRow
from icebus.control.store.transaction import Work
from icebus.schemas.calls import Request
from icebus.schemas.errors import Conflict, ErrorInfo, IcebusError, InvalidRequest, UnknownOperation
from icebus.schemas.message import invalid


def carry_out(
    work: Work,
    user: str,
    operation: str,
    request: Request,
    operations: Mapping[str, Operation] = OPERATIONS,
) -> dict[str, Any]:
    """Do what a user requests, or give the answer again that the same request got before.

    Args:
        work: the transaction.
        user: who asks.
        operation: what for.
        request: what was received.
        operations: those that may be asked for where it was received.

    Raises:
        IcebusError: what is wrong with it.
    """
    known = operations.get(operation)
    if known is None:
        raise UnknownOperation(
            f"control has no operation {operation} here; it has {', '.join(operations)}",
            operations=list(operations),
        )
    if not known.changes:
        return _run(work, user, operation, known, request)
    before = _remembered(work, user, operation, request, operations)
    if before is not None:
        return before
    reply = _run(work, user, operation, known, request)
    work.session.add(_row(work, user, operation, request, operations, reply))
    return reply


def refuse(
    work: Work,
    user: str,
    operation: str,
    request: Request,
    refusal: IcebusError,
    operations: Mapping[str, Operation] = OPERATIONS,
) -> dict[str, Any] | None:
    """Remember that a request is refused; what :func:`carry_out` did on the way is undone.

    A request that is sent again may reach another control as well. Whichever answers first, the
    other must come to the same end, or one who was refused holds devices and does not know.

    Returns:
        What the other control has answered, if it was first and carried it out.

    Raises:
        IcebusError: what the other control has answered, if it was first and refused it too.
    """
    known = operations.get(operation)
    if known is None or not known.changes or isinstance(refusal, Conflict | InvalidRequest):
        # Everybody comes to that end.
        return None
    before = _remembered(work, user, operation, request, operations)
    if before is None:
        reply = {_REFUSED: refusal.info().model_dump(mode="json")}
        work.session.add(_row(work, user, operation, request, operations, reply))
    return before


_REFUSED = "error"
"""The one field of what is remembered of a request that was refused."""


def _remembered(
    work: Work, user: str, operation: str, request: Request, operations: Mapping[str, Operation]
) -> dict[str, Any] | None:
    before = work.session.get(RequestRow, (user, request.id))
    if before is None:
        return None
    if (before.operation, before.digest) != (_name(operation, operations), _digest(request)):
        raise Conflict(
            f"request {request.id} was used before for something else; "
            "give every request an id of its own",
            operation=before.operation,
        )
    if before.reply.keys() == {_REFUSED}:
        raise IcebusError.from_info(ErrorInfo.model_validate(before.reply[_REFUSED]))
    return before.reply


def _row(
    work: Work,
    user: str,
    operation: str,
    request: Request,
    operations: Mapping[str, Operation],
    reply: dict[str, Any],
) -> RequestRow:
    return RequestRow(
        user=user,
        id=request.id,
        operation=_name(operation, operations),
        digest=_digest(request),
        reply=reply,
        at=work.now,
    )


def _name(operation: str, operations: Mapping[str, Operation]) -> str:
    """Of two operations that are called the same, it says which one."""
    return operation if operations is OPERATIONS else f"admin/{operation}"


def _run(
    work: Work, user: str, name: str, operation: Operation, request: Request
) -> dict[str, Any]:
    try:
        args = operation.args.model_validate(request.args)
    except ValidationError as error:
        raise invalid(error, name) from None
    return operation.run(work, user, args).model_dump(mode="json")


def _digest(request: Request) -> str:
    try:
        text = json.dumps(request.args, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
    except ValueError:
        raise InvalidRequest("args: NaN and infinity are not numbers that JSON has") from None
