"""Whether a standing broker is well: facts from its folder and its machine, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import reachable
from icebus.bus import BrokerAddress, glance
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.ids import BROKER
from icebus.schemas.supervision.facts import Space, installed_at, space_at
from icebus.schemas.supervision.health import (
    Finding,
    Verdict,
    critical,
    judge_certificate,
    judge_clock,
    judge_space,
    ok,
    unknown,
    warning,
)
from icebus.schemas.wording import counted

_LISTEN = "0A"
"""Of the states in Linux's ``/proc/net/tcp`` (``TCP_LISTEN`` in ``include/net/tcp_states.h``)."""


@dataclass(frozen=True)
class Facts:
    """What was found out about a broker.

    Attributes:
        directory: where it keeps everything.
        problem: why that can't be read; empty when it can.
        configured: whether there is a broker in it.
        runs: whether one runs on it.
        ports: each that it is to listen on, and whether anything does; None where nobody can tell.
        answers: why it does not take us in; empty when it does.
        own_ends: the end of its certificate, as seconds since 1970; None without TLS.
        ends: of those of workers and controls, by name.
        space: of the disk.
        now: by this machine's clock.
        installed: when this program was.
    """

    directory: str
    problem: str = ""
    configured: bool = True
    runs: bool = True
    ports: Mapping[int, bool | None] = field(default_factory=dict)
    answers: str = ""
    own_ends: float | None = None
    ends: Mapping[str, float] = field(default_factory=dict)
    space: Space | None = None
    now: float = 0.0
    installed: float = 0.0


def judge(facts: Facts) -> Verdict:
    """The verdict on what was found out."""
    components = [
        judge_certificate(f"the certificate of {name}", ends, facts.now)
        for name, ends in sorted(facts.ends.items())
    ]
    return Verdict.of(
        "broker",
        (
            _judge_running(facts),
            *(
                critical("listening", f"nothing listens on port {port}")
                for port, listens in facts.ports.items()
                if listens is False
            ),
            None if facts.space is None else judge_space(facts.space),
            judge_certificate("the broker's certificate", facts.own_ends, facts.now),
            # A component whose certificate has ended is shut out; the broker itself is well.
            *(warning(each.name, each.text) for each in components if each and each.severity),
            judge_clock(facts.now, facts.installed),
        ),
    )


def _judge_running(facts: Facts) -> Finding:
    if facts.problem:
        return unknown("running", facts.problem)
    if not facts.configured:
        return critical("running", f"there is no broker in {facts.directory}: `icebus-broker init`")
    if not facts.runs:
        return critical("running", f"no broker runs in {facts.directory}")
    if facts.answers:
        return critical("running", f"it does not answer: {facts.answers}")
    return ok("running", f"it answers, and listens on {counted(len(facts.ports), 'port')}")


def look(files: BrokerDirectory, seconds: float) -> Verdict:
    """Gather facts, and judge them.

    Args:
        files: the broker's directory; whoever may read it may ask.
        seconds: to look for, about.
    """
    facts = Facts(
        directory=str(files.path),
        space=space_at(files.path),
        now=time.time(),
        installed=installed_at(),
    )
    try:
        return judge(_asked(files, facts, Deadline.after(seconds)))
    except IcebusError as error:
        return judge(replace(facts, problem=error.message))
    except OSError as error:
        why = f"{files.path} can't be read ({error.strerror}); run this as its owner"
        return judge(replace(facts, problem=why))


def _asked(files: BrokerDirectory, facts: Facts, deadline: Deadline) -> Facts:
    settings = files.settings
    if settings is None:
        return replace(facts, configured=False)
    if settings.tls is not None:
        by_name = files.certificates.ends_by_name()
        facts = replace(
            facts,
            own_ends=files.certificates.ends.timestamp(),
            ends={name: ends.timestamp() for name, ends in by_name.items()},
        )
    if files.pid is None:
        return replace(facts, runs=False)
    return replace(
        facts,
        ports=_ports(settings, listening_ports()),
        answers=_answers(files, settings, deadline),
    )


def _answers(files: BrokerDirectory, settings: Settings, deadline: Deadline) -> str:
    """Why Mosquitto does not take in its own service; empty when it does."""
    service = files.principals.get(BROKER)
    if service is None or not service.password:
        return ""
    address = BrokerAddress(
        host=reachable(settings.host),
        port=settings.port,
        user=service.id,
        password=service.password,
        root=settings.root,
    )
    problem = glance(address, "health", [], lambda _: True, deadline).problem
    return "" if problem is None else problem.message


def _ports(settings: Settings, listening: frozenset[int] | None) -> dict[int, bool | None]:
    wanted = [settings.port]
    if settings.tls is not None:
        wanted += [settings.tls.port, settings.tls.component_port]
    return {each: None if listening is None else each in listening for each in wanted}


def listening_ports() -> frozenset[int] | None:
    """The TCP ports of this machine that somebody listens on; None where nobody says.

    A connection would tell as well, but Mosquitto logs each that comes without a handshake.
    """
    ports = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_ = line.split()
            if state == _LISTEN:
                ports.add(int(local.rpartition(":")[2], 16))
    return frozenset(ports) or None
