"""Checks of the farm: whether it is there, and whether what is there can be used.

Each check judges facts and does no I/O; :func:`findings` gathers them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from icebus.bus import BrokerAddress, Bus, check_role
from icebus.client._farm.offers import merge
from icebus.client._farm.survey import Survey, survey
from icebus.client._profiles.endings import endings
from icebus.client._profiles.profile import find_address
from icebus.client._version import version
from icebus.client.doctor.finding import Finding, fail, ok, warn
from icebus.schemas.components import FailedLogins
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import IcebusError, NoProfile, NotAuthorized
from icebus.schemas.liveness import is_gone
from icebus.schemas.message import decode, now
from icebus.schemas.operations.accounts import Account
from icebus.schemas.topics import ACCOUNT, FAILED_LOGINS, Role

TIMEOUT: Final = 4.0
"""Seconds for the broker to take us in, and to tell how the farm is."""

SAME_CLOCK: Final = timedelta(seconds=2)
"""By how much clocks may differ without anybody noticing."""

CERTIFICATE_SOON: Final = 30 * 86_400.0
"""Seconds before its end that the broker's certificate is warned of."""

SHOWN: Final = 5
"""Findings of one sort at most: what is the matter with a worker is so with all its boards."""

OVERDUE: Final = timedelta(seconds=30)
"""How long control may take to end what has expired, on a busy machine."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

MANY_FAILURES: Final = 10
"""Failed logins from one address that are worth a word: somebody who mistypes has fewer."""

_START = "`icebus up` starts one on this machine"


def check_profile(error: IcebusError | None, address: BrokerAddress | None) -> Finding:
    """Whether anything says where the farm is."""
    if address is not None:
        return ok("profile", f"{address.user} at {address.host}:{address.port}")
    if error is None or isinstance(error, NoProfile):
        return fail("profile", "no farm is named and none runs here", _START)
    return fail("profile", str(error), "icebus profile")


def check_account(account: Account | None, login: str, at: datetime) -> Finding:
    """Whether anything of our account ends soon.

    Args:
        account: as the broker tells it; None where it has nobody who does.
        login: the name that we are logged in under.
        at: now.
    """
    if account is None:
        return ok("account", "the broker does not tell when it ends")
    found = endings(account, login, at)
    if not found:
        return ok("account", f"{account.user}, {account.role}")
    what, _, remedy = found[0].message.partition(": ")
    return warn("account", what, remedy)


def check_broker(address: BrokerAddress, error: IcebusError | None, took: float) -> Finding:
    """Whether the broker takes us in.

    Args:
        address: of it.
        error: why it does not.
        took: seconds it took.
    """
    if error is None:
        where = f"{address.host}:{address.port}"
        return ok("broker", f"{where} took us in within {took * 1000:.0f} ms")
    remedy = str(error.details.get("remedy", ""))
    found = error.message.removesuffix(remedy).removesuffix("; ")
    return fail("broker", found, remedy or "`icebus profile` shows the URL in use")


def check_certificate(ends: float | None, now: float) -> Finding:
    """Whether the broker's certificate is good for a while yet.

    Args:
        ends: when it does, as seconds since 1970; None without TLS.
        now: likewise.
    """
    if ends is None:
        return ok("certificate", "the connection has just ended")
    when = f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%d}"
    if ends - now < CERTIFICATE_SOON:
        return warn(
            "certificate",
            f"the broker's ends on {when}",
            "tell whoever keeps the broker: `icebus-broker renew`",
        )
    return ok("certificate", f"the broker's is good until {when}")


def check_clock(farm: Survey, at: datetime, *, here: bool) -> Finding:
    """Whether this machine's clock agrees with what the farm says; all it can tell by is read.

    Args:
        farm: as it is.
        at: this machine's time.
        here: whether the farm runs on this machine.
    """
    said = [report.since for report in farm.devices.values()]
    said += [reservation.created for reservation in farm.reservations.values()]
    ends = [reservation.until for reservation in farm.reservations.values()]
    remedy = "set the clock: `timedatectl set-ntp true`"
    if said and (ahead := max(said) - at) > SAME_CLOCK:
        return warn("clock", f"the farm is {_seconds(ahead)} ahead of this machine", remedy)
    if ends and (behind := at - min(ends)) > OVERDUE:
        return warn("clock", f"the farm is {_seconds(behind)} behind this machine", remedy)
    return ok("clock", "this machine's" if here else "nothing speaks of a difference")


def _seconds(difference: timedelta) -> str:
    return f"{difference.total_seconds():.0f} s or more"


def _restart(program: str, where: str, started_by: str) -> str:
    if started_by:
        return f"restart `{started_by}`; the logs in its directory say why"
    return f"have {program} restarted {where}; its log says why"


def check_control(farm: Survey, started_by: str = "") -> Finding:
    """Whether a control leads: without one nobody can reserve.

    Args:
        farm: as it is.
        started_by: the command that starts it, if that is ours to do.
    """
    online = sorted(name for name, state in farm.controls.items() if not is_gone(state))
    troubled = {name: trouble for name in online if (trouble := farm.controls[name].database)}
    if troubled:
        tell = fail if len(troubled) == len(online) else warn
        name, trouble = min(troubled.items(), key=lambda each: each[1].since)
        since = f"since {trouble.since:%Y-%m-%d %H:%M:%S} UTC"
        return tell("control", f"{name}'s database {trouble.words}, {since}", trouble.remedy)
    if farm.heartbeat is not None and online:
        return ok("control", f"{', '.join(online)}, heartbeat {farm.heartbeat.sequence}")
    remedy = _restart("icebus-control", "where the farm runs", started_by)
    if not farm.controls:
        return fail("control", "none was ever there", remedy)
    if not online:
        return fail("control", f"{', '.join(sorted(farm.controls))} ended or died", remedy)
    return fail("control", f"{', '.join(online)} has no heartbeat", remedy)


def check_workers(farm: Survey, started_by: str = "") -> list[Finding]:
    """Whether each worker is there and answers; arguments as above."""
    remedy = _restart("icebus-worker", "where the boards are", started_by)
    remedy += ". Is it gone for good? `icebus admin retire`"
    if not farm.workers:
        return [fail("workers", "none was ever there", remedy)]
    found = []
    well = [worker for worker in sorted(farm.workers) if farm.answers(worker) is not False]
    if well:
        names = ", ".join(well[:5]) + (f" and {len(well) - 5} more" if len(well) > 5 else "")
        found.append(ok("workers", names))
    tell = warn if well else fail
    for worker in sorted(set(farm.workers) - set(well)):
        state = farm.workers[worker]
        how = f"is {state.state.value}" if is_gone(state) else "does not answer heartbeats"
        found.append(tell("workers", f"{worker} {how}", remedy))
    return found


def check_devices(farm: Survey, started_by: str = "") -> list[Finding]:
    """How many boards can be used, and what is the matter with the others; arguments as above."""
    reports = [
        report
        for (worker, serial), report in farm.devices.items()
        if farm.answers(worker) is not False and not farm.merely_claims(worker, serial)
    ]
    if not reports:
        # A farm that is up has to end before its folder is given boards.
        anew = f", or end it and bring it up by `{started_by} --boards 4`"
        virtual = anew if started_by else " where its workers are"
        return [fail("devices", "none", f"plug boards in{virtual}")]
    counts = Counter(report.state.value for report in reports)
    shown = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    bad = [report for report in reports if report.state in _TROUBLE]
    found = [ok("devices", shown) if len(bad) < len(reports) else _all_bad(shown)]
    return found + [_device(report) for report in sorted(bad, key=lambda each: each.serial)]


def check_claims(farm: Survey) -> list[Finding]:
    """Whether each board is one worker's: one that several claim is a mistake, or an attack."""
    found = [
        fail("devices", f"{claim.serial} of {claim.worker} is claimed by {names} too", claim.remedy)
        for claim in sorted(farm.claims.values(), key=lambda claim: claim.serial)
        if (names := " and ".join(claim.claimed_by))
    ]
    if len(found) <= SHOWN:
        return found
    more = f"{len(found) - SHOWN} more are claimed by several workers"
    return [*found[:SHOWN], fail("devices", more, "`icebus devices` has them all")]


_TROUBLE: Final = {
    DeviceState.ABSENT: "plug it in again; if a program holds its port, stop that one",
    DeviceState.BROKEN: "unplug it and plug it in again; its worker tries by itself, too",
    DeviceState.QUARANTINED: "ask an administrator why it was taken out",
}


def _all_bad(shown: str) -> Finding:
    return fail("devices", shown, "repair one of them; the worker's log tells more")


def _device(report: DeviceReport) -> Finding:
    why = report.reason or "no reason was told"
    found = f"{report.serial} is {report.state.value}: {why}"
    return warn("devices", found, _TROUBLE[report.state])


def check_logins(told: FailedLogins | None, at: datetime) -> list[Finding]:
    """Whether somebody tries to log in at the broker and fails; administrators alone are told.

    Args:
        told: by the broker; None for others, and for a broker that tells nothing.
        at: this machine's time.
    """
    if told is None:
        return []
    many = [each for each in told.addresses if each.failures >= MANY_FAILURES]
    found = [
        warn(
            "logins",
            f"{each.failures:,} failed from {each.address}, the last "
            f"{max(0, (at - each.last).total_seconds()) / 60:.0f} min ago"
            + (": it is shut out" if each.address in told.shut_out else ""),
            "a program with an old password, or somebody who tries; the broker's log says why",
        )
        for each in many[:SHOWN]
    ]
    if len(many) > SHOWN:
        found.append(warn("logins", f"and from {len(many) - SHOWN} more addresses", ""))
    return found or [ok("logins", "few failed within the last hour, or none")]


def check_versions(farm: Survey, ours: str) -> Finding:
    """Whether all parts of the farm are of this version, and offer the same."""
    versions = [(name, state.version) for name, state in farm.workers.items()]
    versions += [(name, state.version) for name, state in farm.controls.items()]
    others = sorted(f"{name} {theirs}" for name, theirs in versions if theirs not in ("", ours))
    if others:
        return warn("versions", f"{', '.join(others)}; this is {ours}", "update the older")
    offers = Counter(offer.kind for offer in merge(farm.kinds))
    differ = sorted(kind for kind, count in offers.items() if count > 1)
    if differ:
        return warn(
            "versions",
            f"workers differ in kind {', '.join(differ)}",
            "`icebus kinds` shows which; update the older",
        )
    return ok("versions", ours)


def findings(named: str | None) -> Iterable[Finding]:
    """All checks of the farm that is named, as far as they get."""
    try:
        address = find_address(farm=named)
    except IcebusError as error:
        yield check_profile(error, None)
        return
    yield check_profile(None, address)
    bus = Bus(address, name=f"{address.user}-doctor", session_expiry=0)
    began = time.monotonic()
    try:
        bus.connect(Deadline.after(TIMEOUT))
    except IcebusError as error:
        yield check_broker(address, error, 0)
        return
    try:
        yield check_broker(address, None, time.monotonic() - began)
        if address.tls:
            yield check_certificate(bus.certificate_ends, time.time())
        check_role(bus, Role.OBSERVER, "icebus", Deadline.after(TIMEOUT))
        accounts: list[Account] = []
        bus.subscribe(
            ACCOUNT,
            lambda each: accounts.append(decode(Account, each.payload)),
            user=address.user,
        )
        # What is kept of the account comes before all of this.
        told: list[FailedLogins] = []
        # Before the survey, which ends when all that is retained has come.
        bus.subscribe(FAILED_LOGINS, lambda heard: told.append(decode(FailedLogins, heard.payload)))
        farm = survey(bus, Deadline.after(TIMEOUT))
        yield check_account(accounts[-1] if accounts else None, address.logs_in_as, now())
    except NotAuthorized as error:
        remedy = str(error.details.get("remedy", "use credentials of a person"))
        yield fail("role", error.message.removesuffix(remedy).removesuffix("; "), remedy)
        return
    except IcebusError as error:
        yield fail("topics", str(error), "look at the broker's log")
        return
    finally:
        bus.close(Deadline.after(TIMEOUT))
    yield check_control(farm, address.started_by)
    yield from check_workers(farm, address.started_by)
    yield from check_devices(farm, address.started_by)
    yield from check_claims(farm)
    yield from check_logins(told[-1] if told else None, now())
    yield check_versions(farm, version())
    yield check_clock(farm, now(), here=address.host in LOOPBACK)
