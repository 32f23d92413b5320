"""Answering what users ask of the broker, on ``broker/call/{user}/{operation}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.bus import Bus, Exchange, FromUsers, Incoming, Responder
from icebus.schemas.calls import Request
from icebus.schemas.errors import LimitExceeded, UnknownOperation, UnknownPrincipal
from icebus.schemas.ids import BROKER
from icebus.schemas.message import Args, invalid
from icebus.schemas.operations.accounts import Account, WhoAmIArgs
from icebus.schemas.topics import BROKER_OPERATION

A = TypeVar("A", bound=Args)


class Requests:
    """A part of the broker's service: an answer for each request, made on the service's thread."""

    def __init__(self, files: BrokerDirectory) -> None:
        self._files = files
        self._responder: Responder | None = None
        self._soon: Callable[[Callable[[], None]], bool] | None = None
        self._operations: dict[str, Callable[[str, Request], BaseModel]] = {
            "whoami": self._whoami,
        }

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._responder = Responder(bus, BROKER)
        self._soon = soon
        bus.subscribe(BROKER_OPERATION, self._on_request, FromUsers(refused=self._responder.refuse))

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Nothing is kept: whoever asks is looked up then."""

    def stop(self) -> None:
        """End."""

    # --- on the dispatcher ----------------------------------------------------------------------

    def _on_request(self, incoming: Incoming) -> None:
        if self._responder is None or self._soon is None:
            return
        operation = incoming.ids["operation"]
        exchange = self._responder.accept(incoming, Request)
        if exchange is not None and not self._soon(lambda: self._answer(exchange, operation)):
            exchange.fail(LimitExceeded("the broker has too many requests in work; ask later"))

    # --- on the service's thread ----------------------------------------------------------------

    def _answer(self, exchange: Exchange[Request], operation: str) -> None:
        try:
            carry_out = self._operations.get(operation)
            if carry_out is None:
                known = ", ".join(sorted(self._operations))
                raise UnknownOperation(f"the broker has no operation {operation!r}; it has {known}")
            answer = carry_out(exchange.user, exchange.request)
        except Exception as error:  # noqa: BLE001 - who asked is told, and the log has it
            exchange.fail(error)
        else:
            exchange.succeed(answer)

    def _whoami(self, user: str, request: Request) -> Account:
        _read(WhoAmIArgs, request)
        principal = self._principal(user)
        return Account(user=principal.id, role=principal.role.value)

    def _principal(self, user: str) -> Principal:
        principal = self._files.principals.get(user)
        if principal is None:
            raise UnknownPrincipal(f"the broker knows nobody called {user!r} any more")
        return principal


def _read(model: type[A], request: Request) -> A:
    try:
        return model.model_validate(request.args)
    except ValidationError as error:
        raise invalid(error, "the request") from None
