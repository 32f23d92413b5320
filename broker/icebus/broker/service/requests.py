"""Answering what users ask of the broker, on ``broker/call/{user}/{operation}``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from icebus.broker.access import Principal
from icebus.broker.accounts import with_password
from icebus.broker.directory import BrokerDirectory
from icebus.broker.reading import is_harmed_by_shutting_out
from icebus.bus import Allowance, Bucket, Bus, Exchange, FromUsers, Incoming, Responder
from icebus.schemas.calls import Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    LimitExceeded,
    TooManyRequests,
    UnknownOperation,
    UnknownPrincipal,
)
from icebus.schemas.ids import BROKER
from icebus.schemas.message import Args, invalid
from icebus.schemas.operations.accounts import Account, EndFormerArgs, PasswdArgs, WhoAmIArgs
from icebus.schemas.topics import BROKER_OPERATION

log = logging.getLogger(__name__)

ALLOWANCE = Allowance(per_second=1, at_once=10, waiting=10)
"""What a user may ask of the broker: a new password has Mosquitto read its files anew."""

ENDINGS_AT_ONCE = 5
ENDINGS_PER_SECOND = 1 / 600
"""Passwords that one user may end: where Mosquitto is started anew for that, all others lose their
connections for a moment."""

FLUSH_TIMEOUT = 2.0

A = TypeVar("A", bound=Args)


class Requests:
    """A part of the broker's service: an answer for each request, made on the service's thread."""

    def __init__(self, files: BrokerDirectory) -> None:
        self._files = files
        self._responder: Responder | None = None
        self._soon: Callable[[Callable[[], None]], bool] | None = None
        self._operations: dict[str, Callable[[str, Request], BaseModel]] = {
            "whoami": self._whoami,
            "passwd": self._passwd,
            "end_former": self._end_former,
        }
        self._bus: Bus | None = None
        self._endings: dict[str, Bucket] = {}

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus = bus
        self._responder = Responder(bus, BROKER)
        self._soon = soon
        bus.subscribe(
            BROKER_OPERATION,
            self._on_request,
            FromUsers(lambda _user: ALLOWANCE, self._responder.refuse),
        )

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Nothing is kept: whoever asks is looked up then."""

    def tick(self) -> None:
        """Nothing falls due."""

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
            if operation in ("passwd", "end_former") and self._bus is not None:
                # Mosquitto ends connections with a password that ends: the answer goes before.
                self._bus.flush(Deadline.after(FLUSH_TIMEOUT))
                self._files.reload()

    def _whoami(self, user: str, request: Request) -> Account:
        _read(WhoAmIArgs, request)
        principal = self._principal(user)
        return account(principal)

    def _passwd(self, user: str, request: Request) -> Account:
        args = _read(PasswdArgs, request)
        self._principal(user)
        overlap = self._files.overlap
        changed = self._change(
            user,
            lambda before: with_password(
                before,
                args.password,
                args.login,
                overlap,
                former_hash=self._files.hash_read(before),
            ),
        )
        log.info("%s has another password", user, extra={"subject": user})
        return account(changed)

    def _end_former(self, user: str, request: Request) -> Account:
        _read(EndFormerArgs, request)
        self._principal(user)
        changed = self._change(user, lambda before: before.model_copy(update={"others": ()}))
        log.info("ended the former passwords of %s", user, extra={"subject": user})
        return account(changed)

    def _change(self, user: str, change: Callable[[Principal], Principal]) -> Principal:
        """Change what is known of somebody, who may not have passwords end as often as they like.

        Raises:
            TooManyRequests: they have had too many end.
        """

        def bounded(before: Principal) -> Principal:
            after = change(before)
            if set(before.logins) - set(after.logins) or _is_replaced(before, after):
                self._take_ending(user)
            return after

        return self._files.change(user, bounded, reload=False)

    def _take_ending(self, user: str) -> None:
        if not is_harmed_by_shutting_out():
            return
        bucket = self._endings.setdefault(user, Bucket())
        bucket.fill(ENDINGS_PER_SECOND, ENDINGS_AT_ONCE, time.monotonic())
        if not bucket.has(1):
            wait = bucket.wait(1, ENDINGS_PER_SECOND)
            raise TooManyRequests(
                f"{user} has had {ENDINGS_AT_ONCE} passwords end, for each of which everybody's "
                f"connection ended, too; again in {wait / 60:.0f} minutes, or ask whoever runs the "
                f"farm: icebus-broker add {user} --new-password --now",
                retry_after=wait,
            )
        bucket.take(1)

    def _principal(self, user: str) -> Principal:
        principal = self._files.principals.get(user)
        if principal is None:
            raise UnknownPrincipal(f"the broker knows nobody called {user!r} any more")
        return principal


def _is_replaced(before: Principal, after: Principal) -> bool:
    """Whether another password stands under the same name to log in."""
    present = (before.password, before.password_hash)
    return before.logs_in_as == after.logs_in_as and present != (
        after.password,
        after.password_hash,
    )


def account(principal: Principal) -> Account:
    """What somebody is told of their own account."""
    return Account(
        user=principal.id,
        role=principal.role.value,
        invited=principal.invited_until is not None,
        expires=principal.ends,
        login=principal.logs_in_as,
        former={each.login: each.until for each in principal.others},
    )


def _read(model: type[A], request: Request) -> A:
    try:
        return model.model_validate(request.args)
    except ValidationError as error:
        raise invalid(error, "the request") from None
