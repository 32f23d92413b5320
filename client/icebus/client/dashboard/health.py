"""Whether a dashboard is well: facts from this machine and the broker, and the verdict."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icebus.broker.embedded import reachable
from icebus.broker.tls.authority import ends_of
from icebus.bus import glance
from icebus.client.dashboard.built import is_built
from icebus.client.dashboard.running import ANSWER_TIMEOUT, Running, RunningFile
from icebus.schemas.deadline import Deadline
from icebus.schemas.supervision.facts import ProgramFacts, installed_at, space_at
from icebus.schemas.supervision.health import (
    Finding,
    Verdict,
    critical,
    judge_surroundings,
    ok,
)
from icebus.schemas.topics import Role

if TYPE_CHECKING:
    from icebus.bus import BrokerAddress


@dataclass(frozen=True)
class Facts(ProgramFacts):
    """What was found out about a dashboard.

    Attributes:
        url: where it says that it serves; empty where it says nothing.
        answers: whether it answers there.
        built: whether there is a page to serve.
    """

    url: str = ""
    answers: bool = False
    built: bool = True


def judge(facts: Facts) -> Verdict:
    """The verdict on what was found out."""
    return Verdict.of(
        f"dashboard {facts.name}",
        (
            _judge_running(facts),
            ok("page", "its page is built")
            if facts.built
            else critical("page", "its page is not built: script/dashboard"),
            critical("broker", facts.broker)
            if facts.broker
            else ok("broker", "the broker takes it in"),
            *judge_surroundings(facts, "the certificate for browsers"),
        ),
    )


def _judge_running(facts: Facts) -> Finding:
    if not facts.url:
        return critical("running", "it is not running here")
    if not facts.answers:
        return critical("running", f"it does not answer at {facts.url}")
    return ok("running", f"it serves {facts.url}")


def look(address: BrokerAddress, seconds: float) -> Verdict:
    """Gather facts, and judge them.

    Args:
        address: the broker, and whose account the dashboard has.
        seconds: to look for, about.

    Raises:
        WrongRole: the account is that of a program.
    """
    deadline = Deadline.after(seconds)
    file = RunningFile(address)
    running = file.read()
    answers = running is not None and running.answers
    needs = (Role.OBSERVER, "icebus dashboard")
    seen = glance(address, "health", [], lambda _: True, deadline, needs)
    return judge(
        Facts(
            name=address.user,
            url="" if running is None else running.url,
            answers=answers,
            built=is_built(),
            broker="" if seen.problem is None else seen.problem.message,
            broker_ends=seen.certificate_ends,
            own_ends=_shown_until(running) if running is not None and answers else None,
            space=space_at(file.path),
            now=time.time(),
            installed=installed_at(),
        )
    )


def _shown_until(running: Running) -> float | None:
    """The end of the certificate that browsers are shown; None without TLS."""
    if not running.url.startswith("https:"):
        return None
    host, port = running.listens
    try:
        return ends_of(ssl.get_server_certificate((reachable(host), port), timeout=ANSWER_TIMEOUT))
    except OSError:
        return None
