"""Whoever is told to ask less waits and asks again, until the deadline."""

from __future__ import annotations

from typing import Any

import pytest
from tests.bus.exchanges import Server, ask, requester, say

from icebus.bus import Exchange
from icebus.bus._requests import asking
from icebus.schemas.calls import Reply, Request
from icebus.schemas.errors import TooManyRequests


def refusing(times: int) -> Any:
    """Refuses so many times and then says yes."""
    left = [times]

    def act(exchange: Exchange[Request]) -> None:
        left[0] -= 1
        if left[0] >= 0:
            # As one that was not taken at all: nothing is remembered of it.
            memory = exchange._responder._memory
            recipients = memory.finish(exchange.user, exchange.request.id, b"")
            memory._users[exchange.user].drop_answer(exchange.request.id)
            error = TooManyRequests("too many", retry_after=0.05)
            reply = Reply(id=exchange.request.id, error=error.info())
            exchange._responder._publish_all(recipients, reply.model_dump_json().encode())
        else:
            say("yes")(exchange)

    return act


def test_given_a_refusal_for_too_many_when_asked_then_it_is_tried_again_until_it_is_taken(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "RETRY_INTERVAL", 60.0)
    server = Server(connect("main"), refusing(3))
    assert ask(requester(connect("alice"))).word == "yes"
    assert len(server.done) == 4
    assert len(set(server.done)) == 1


def test_given_refusals_without_end_then_the_error_says_so_at_the_deadline(connect: Any) -> None:
    Server(connect("main"), refusing(10_000))
    with pytest.raises(TooManyRequests):
        ask(requester(connect("alice")), seconds=1)
