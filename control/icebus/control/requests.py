"""From a request to its answer: known operation, valid arguments, done once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from icebus.control.operations import OPERATIONS, Operation
from icebus.control.tables import RequestRow
from icebus.control.work import Work
from icebus.schemas.calls import Request
from icebus.schemas.errors import Conflict, InvalidRequest, UnknownOperation
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
    digest = _digest(request)
    # Of two operations that are called the same, it says which one.
    name = operation if operations is OPERATIONS else f"admin/{operation}"
    before = work.session.get(RequestRow, (user, request.id))
    if before is not None:
        if (before.operation, before.digest) != (name, digest):
            raise Conflict(
                f"request {request.id} was used before for something else; "
                "give every request an id of its own",
                operation=before.operation,
            )
        return before.reply
    reply = _run(work, user, operation, known, request)
    work.session.add(
        RequestRow(
            user=user,
            id=request.id,
            operation=name,
            digest=digest,
            reply=reply,
            at=work.now,
        )
    )
    return reply


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
