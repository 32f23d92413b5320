"""From a request to its answer: done once, however often and wherever it is received.

Each bus connection remembers its answers in memory; what changed something is remembered here, in
the database, for other controls and for this one after a restart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from icebus.control.operations.requests.named_devices import with_devices_meant
from icebus.control.store.tables import RequestRow
from icebus.control.transaction import Transaction
from icebus.schemas.calls import Request
from icebus.schemas.errors import Conflict, ErrorInfo, IcebusError, InvalidRequest, UnknownOperation
from icebus.schemas.message import invalid

T = TypeVar("T")

_REFUSED = "error"
"""The one field of what is remembered of a request that was refused."""


@dataclass(frozen=True)
class Operation:
    """An operation that may be requested of control.

    Attributes:
        name: as it is remembered; different from that of all others.
        args: what it takes.
        run: does it, for a user.
        changes: whether it changes anything, so that it must not be done twice.
    """

    name: str
    args: type[BaseModel]
    run: Callable[[Transaction, str, Any], BaseModel]
    changes: bool = False


Operations = Mapping[str, Operation]
"""By the names that stand in the topics."""


def find(operations: Operations, name: str) -> Operation:
    """The operation of that name.

    Raises:
        UnknownOperation: there is none.
    """
    if name not in operations:
        raise UnknownOperation(
            f"control has no operation {name} here; it has {', '.join(operations)}",
            operations=list(operations),
        )
    return operations[name]


class Run(Protocol):
    """Carries out a step in a transaction of its own."""

    def __call__(self, step: Callable[[Transaction], T]) -> T:
        """What the step returns."""


def answer(run: Run, user: str, operation: Operation, request: Request) -> dict[str, Any]:
    """The answer to a request, which is carried out, or refused, unless it was before.

    Raises:
        IcebusError: what is wrong with it.
    """
    try:
        return run(lambda transaction: carry_out(transaction, user, operation, request))
    except IcebusError as error:
        refusal = error
        before = run(lambda transaction: refuse(transaction, user, operation, request, refusal))
        if before is None:
            raise
        return before


def carry_out(
    transaction: Transaction, user: str, operation: Operation, request: Request
) -> dict[str, Any]:
    """Do what a user requests, or give the answer again that the same request got before.

    Raises:
        IcebusError: what is wrong with it.
    """
    if not operation.changes:
        return _run(transaction, user, operation, request)
    before = _remembered(transaction, user, operation, request)
    if before is not None:
        return before
    reply = _run(transaction, user, operation, request)
    _remember(transaction, user, operation, request, reply)
    return reply


def refuse(
    transaction: Transaction,
    user: str,
    operation: Operation,
    request: Request,
    refusal: IcebusError,
) -> dict[str, Any] | None:
    """Remember that a request is refused; what :func:`carry_out` did on the way is undone.

    A request that is sent again may reach another control as well. Whichever answers first, the
    other must come to the same end, or one who was refused holds devices and does not know.

    Returns:
        What the other control has answered, if it was first and carried it out.

    Raises:
        IcebusError: what the other control has answered, if it was first and refused it too.
    """
    if not operation.changes or isinstance(refusal, Conflict | InvalidRequest):
        # Everybody comes to that end.
        return None
    before = _remembered(transaction, user, operation, request)
    if before is None:
        reply = {_REFUSED: refusal.info().model_dump(mode="json")}
        _remember(transaction, user, operation, request, reply)
    return before


def withdraw_request(transaction: Transaction, user: str, request: str, operation: str) -> Any:
    """The answer that a request of this id got; None if it never came. It is refused if it does.

    Raises:
        InvalidRequest: it was a request for another operation.
    """
    row = transaction.session.get(RequestRow, (user, request))
    if row is None:
        # With this digest, whatever comes is taken for another request of the same id.
        transaction.session.add(
            RequestRow(
                user=user,
                id=request,
                operation=operation,
                digest="withdrawn",
                reply={},
                at=transaction.now,
            )
        )
        return None
    if row.operation != operation:
        raise InvalidRequest(f"request {request} is no `{operation}`, so it can't be withdrawn")
    return row.reply


def _run(
    transaction: Transaction, user: str, operation: Operation, request: Request
) -> dict[str, Any]:
    try:
        args = operation.args.model_validate(request.args)
    except ValidationError as error:
        raise invalid(error, operation.name) from None
    args = with_devices_meant(transaction, args)
    return operation.run(transaction, user, args).model_dump(mode="json")


def _remembered(
    transaction: Transaction, user: str, operation: Operation, request: Request
) -> dict[str, Any] | None:
    before = transaction.session.get(RequestRow, (user, request.id))
    if before is None:
        return None
    if (before.operation, before.digest) != (operation.name, _digest(request)):
        raise Conflict(
            f"request {request.id} was used before for something else; "
            "give every request an id of its own",
            operation=before.operation,
        )
    if before.reply.keys() == {_REFUSED}:
        raise IcebusError.from_info(ErrorInfo.model_validate(before.reply[_REFUSED]))
    return before.reply


def _remember(
    transaction: Transaction,
    user: str,
    operation: Operation,
    request: Request,
    reply: dict[str, Any],
) -> None:
    transaction.session.add(
        RequestRow(
            user=user,
            id=request.id,
            operation=operation.name,
            digest=_digest(request),
            reply=reply,
            at=transaction.now,
        )
    )


def _digest(request: Request) -> str:
    try:
        text = json.dumps(request.args, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
    except ValueError:
        raise InvalidRequest("args: NaN and infinity are not numbers that JSON has") from None
