"""A whole farm on this machine: broker, control, worker and a rack of virtual boards."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import LONGEST_START, EmbeddedBroker
from icebus.broker.process import Child
from icebus.broker.service.failed_logins import FailedLoginsTold
from icebus.broker.service.service import BrokerService
from icebus.broker.service.sessions import Sessions
from icebus.bus import BrokerAddress
from icebus.client._connection.connection import check_id
from icebus.client._profiles.farm_directory import is_up, lock_path, profile_path
from icebus.client._profiles.profile import Profile, default_profile_path
from icebus.client._profiles.saved_profiles import SavedProfiles
from icebus.client.local_farm import running_farms
from icebus.client.local_farm.dashboard import DASHBOARD, FarmDashboard
from icebus.client.local_farm.former_boards import (
    former_boards,
    plugged_boards,
    retire_former,
)
from icebus.client.local_farm.supervisor import Service, Supervisor, tail
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    BrokerUnavailable,
    Conflict,
    DeadlineExceeded,
    IcebusError,
    InvalidRequest,
    ProgramMissing,
)
from icebus.schemas.ids import BROKER
from icebus.schemas.message import now
from icebus.schemas.programs.file_lock import lock
from icebus.schemas.programs.installation import lacks
from icebus.schemas.programs.private_files import make_private_folder, narrow, open_private
from icebus.schemas.topics import Role

if TYPE_CHECKING:
    from icebus.client._client import Client
    from icebus.schemas.operations.reservations import KnownDevice

CONTROL = "main"
WORKER = "local"
OBSERVER = "observer"
ADMIN = "admin"

START_TIMEOUT = 20.0
"""Seconds for control to answer."""

SERVICE_STOP_TIMEOUT = 3.0

DASHBOARD_LOG = "dashboard.log"

CLAIM_TIME = 0.5
"""Seconds to wait for a directory: who asks whether a farm is up holds its lock for a moment."""

ASK_TIMEOUT = 2.0
"""Seconds for control to answer while it may still be starting."""


PACKAGES = ("sqlalchemy", "sqlmodel", "alembic", "jsonschema", "serial", "watchdog", "numpy")
"""What control, worker and rack import of the extra ``all``."""


@dataclass(frozen=True)
class FarmSettings:
    """What a farm is made of.

    Attributes:
        directory: where everything of it is kept.
        users: who may reserve; the first is the default.
        boards: how many virtual ones.
        emulated: how many more, whose chips are emulated.
        usb: whether the boards on this machine's USB belong to it, too.
        firmware: what they run; None for the rack's own default.
        window: seconds that they count pulses for if their firmware is not asked to; None for the
            rack's own default.
        speedup: how many times faster than on a board their windows pass; None for as fast.
        bandwidth: bytes per second of their USB; None for the rack's own default.
        seed: makes their serials and measurements repeatable; None for those of examples.
        port: of the broker; None for the one used before, or a free one.
        dashboard: whether the web page is served.
    """

    directory: Path
    users: Sequence[str]
    boards: int = 4
    emulated: int = 0
    usb: bool = False
    firmware: str | None = None
    window: float | None = None
    speedup: float | None = None
    bandwidth: float | None = None
    seed: int | None = None
    port: int | None = None
    dashboard: bool = True

    @property
    def all_boards(self) -> int:
        """How many boards of the rack there shall be."""
        return self.boards + self.emulated


class Farm:
    """Starts, watches and stops the parts of a farm. Use it from one thread.

    Args:
        settings: what it is made of.
        report: called with a line for people about a part that died or does not start.

    Raises:
        InvalidRequest: a user can't be called so, or the directory can't be used.
        Conflict: another `icebus up` runs in it.
    """

    def __init__(self, settings: FarmSettings, report: Callable[[str], object]) -> None:
        for user in settings.users:
            check_id(user, "user's name")
        self.settings = settings
        self.directory = settings.directory.absolute()
        self.supervisor = Supervisor(report)
        self._lock = _lock(self.directory)
        running_farms.forget(self.directory)  # what one says that was killed
        self._since = now()
        # Before anybody has them open; an earlier version may have left them open to others.
        for pattern in _KEPT:
            for path in self.directory.glob(pattern):
                narrow(path)
        self._broker: EmbeddedBroker | None = None
        self._service: BrokerService | None = None
        self.dashboard: FarmDashboard | None = None
        self._devices: list[KnownDevice] = []

    @property
    def user(self) -> str:
        """The user whom the default profile is for."""
        return self.settings.users[0]

    def start(self) -> None:
        """Start all parts, and write the profiles.

        Raises:
            ProgramMissing: Mosquitto is not installed, or packages of the parts, or something that
                emulating needs.
            BrokerUnavailable: it does not start.
            InvalidRequest: the users' names are ambiguous.
        """
        settings = self.settings
        check_packages()
        if settings.emulated:
            _check_emulator()
        principals = [
            Principal(id=CONTROL, role=Role.CONTROL),
            Principal(id=WORKER, role=Role.WORKER),
            *(Principal(id=user, role=Role.USER) for user in settings.users),
            Principal(id=OBSERVER, role=Role.OBSERVER),
            Principal(id=ADMIN, role=Role.ADMIN),
        ]
        broker = EmbeddedBroker(
            self.directory / "broker", principals, port=settings.port, minded=True
        )
        self._broker = broker
        self.supervisor.start(
            Service(
                "broker",
                lambda: _started(broker),
                self.directory / "broker/mosquitto.log",
                starts_anew=lambda: bool(broker.shut_out),
            )
        )
        address = self.address(BROKER)
        told = FailedLoginsTold(broker.logins)
        sessions = Sessions(broker.logins, address)
        self._service = BrokerService(
            BrokerDirectory(broker.directory), address, [sessions, told], broker.logins
        )
        self._service.start()
        for principal in principals:
            self._profile(principal.id).write(profile_path(self.directory, principal.id))
        database = f"sqlite:///{self.directory / 'control.db'}"
        self._run("control", CONTROL, "--database", database, "--id", CONTROL)
        rack = self.directory / "rack"
        self._run("rack", None, "run", "--directory", str(rack), *self._rack_options())
        owned = ["--rack", str(rack), *(["--usb"] if settings.usb else [])]
        self._run("worker", WORKER, *owned, "--directory", str(self.directory / "worker"))
        if settings.dashboard:
            self.dashboard = FarmDashboard(self.address(self.user), self.profile)
            self.dashboard.start(self.supervisor, self.directory / DASHBOARD_LOG)

    def retire_former(self) -> list[str]:
        """Have boards forgotten that it had before and has no more; returns lines about them."""
        plugged = plugged_boards(self.directory / "rack")
        if plugged is None:
            return []
        former = former_boards(self._devices, plugged, WORKER, usb=self.settings.usb)
        return retire_former(self.address(ADMIN).url(), former)

    def tell_runs(self, *, ready: bool, log: Path | None = None, notes: Sequence[str] = ()) -> None:
        """Say to `icebus status` and `down` that it runs.

        Args:
            ready: whether all boards are.
            log: where this process tells what happens, if that is a file, which is kept short.
            notes: what whoever started it should know.
        """
        if log is not None:
            self.supervisor.logs = [log]
        address = self.address(self.user)
        running_farms.tell(
            running_farms.RunningFarm(
                directory=self.directory,
                pid=os.getpid(),
                began=running_farms.started_at(os.getpid()),
                since=self._since,
                ready=ready,
                boards=self.settings.all_boards,
                usb=self.settings.usb,
                users=tuple(self.settings.users),
                broker=f"{address.host}:{address.port}",
                log=log,
                notes=tuple(notes),
            )
        )

    def _rack_options(self) -> list[str]:
        settings = self.settings
        options = ["--boards", str(settings.boards)]
        if settings.emulated:
            options += ["--emulated", str(settings.emulated)]
        if settings.firmware is not None:
            options += ["--firmware", settings.firmware]
        if settings.window is not None:
            options += ["--window", str(settings.window)]
        if settings.speedup is not None:
            options += ["--speedup", str(settings.speedup)]
        if settings.bandwidth is not None:
            options += ["--bandwidth", str(settings.bandwidth)]
        # By default serials of examples, the same at every start: no other rack is on this farm.
        options += ["--seed", str(settings.seed or 0)]
        return options

    def _run(self, name: str, principal: str | None, *arguments: str) -> None:
        log = self.directory / f"{name}.log"
        argv = [sys.executable, "-m", f"icebus.{name}.cli", *arguments]
        # One port for health is not enough for all that is started here.
        environment = {"PYTHONUNBUFFERED": "1", "ICEBUS_HEALTH": "", "ICEBUS_METRICS": ""}
        if principal is not None:
            environment["ICEBUS_BROKER"] = self.address(principal).url()
        self.supervisor.start(Service(name, lambda: Child(argv, log, environment), log))

    def address(self, principal: str) -> BrokerAddress:
        """How a principal reaches the broker."""
        if self._broker is None:
            raise BrokerUnavailable("the farm was not started")
        return self._broker.address(principal)

    def _profile(self, principal: str) -> Profile:
        return Profile(url=self.address(principal).url(), user=principal, farm=self.directory)

    @property
    def profile(self) -> Path:
        """The profile of the first user."""
        return profile_path(self.directory, self.user)

    def wait_ready(
        self,
        deadline: Deadline,
        pause: Callable[[float], bool],
        report_ready: Callable[[int], None],
    ) -> bool:
        """Wait until every board is ready, serves, or is in quarantine.

        Args:
            deadline: to wait until.
            pause: waits so many seconds, minding signals; True when it is time to stop.
            report_ready: called with the number of boards that are ready.

        Returns:
            False when it was told to stop.

        Raises:
            DeadlineExceeded: they are not ready in time.
            IcebusError: a part of the farm does not start.
        """
        from icebus.client._client import Client

        with Client(self.address(self.user).url(), timeout=START_TIMEOUT) as client:
            while True:
                self._check_started()
                self._devices = _devices(client)
                ready = sum(map(_is_up, self._devices))
                report_ready(ready)
                if ready >= self.settings.all_boards:
                    return True
                if deadline.expired:
                    log = self.directory / "worker.log"
                    raise DeadlineExceeded(
                        f"{ready} of {self.settings.all_boards} boards are ready; the logs in "
                        f"{self.directory} tell more, {log.name} ends with\n{tail(log)}"
                    )
                if pause(0.1):
                    return False

    def _check_started(self) -> None:
        for service in self.supervisor.services:
            if service.deaths >= 3 and service.name != DASHBOARD:
                raise BrokerUnavailable(
                    f"{service.name} does not start; its log {service.log} ends with\n"
                    + tail(service.log)
                )

    def make_default(self) -> bool:
        """Let clients on this machine find this farm; False when another farm is the default."""
        path = default_profile_path()
        try:
            other = Profile.read(path).farm
        except IcebusError:
            other = None
        if other is not None and other != self.directory and is_up(other):
            return False
        try:
            self._profile(self.user).write(path)
        except OSError:
            return False
        # One that was chosen is meant even while a farm runs here.
        return SavedProfiles().current is None

    @property
    def is_default(self) -> bool:
        """Whether clients on this machine find this farm when none is named."""
        if SavedProfiles().current is not None:
            return False
        try:
            return Profile.read(default_profile_path()).farm == self.directory
        except IcebusError:
            return False

    def stop(self) -> None:
        """Stop everything, in order, and take back the default profile if it is ours."""
        path = default_profile_path()
        try:
            if Profile.read(path).farm == self.directory:
                path.unlink()
        except (IcebusError, OSError):
            pass
        if self._service is not None:
            self._service.stop(Deadline.after(SERVICE_STOP_TIMEOUT))
        self.supervisor.stop()
        running_farms.forget(self.directory)
        os.close(self._lock)


def check_packages() -> None:
    """Find out, before anything is started, whether the packages of all parts are installed.

    Raises:
        ProgramMissing: one is not; the message has the remedy.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise lacks("all", "a farm", *missing)


def _check_emulator() -> None:
    """Ask the rack, before anything is started, whether it can emulate boards.

    Raises:
        ProgramMissing: it can't; the message is the rack's, and has the remedy.
    """
    asked = subprocess.run(
        [sys.executable, "-m", "icebus.rack.cli", "emulator"],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT,
    )
    if asked.returncode:
        raise ProgramMissing(asked.stderr.strip().removeprefix("icebus-rack: "))


def _started(broker: EmbeddedBroker) -> Child:
    broker.start(Deadline.after(LONGEST_START))
    return broker.child


_UP = frozenset({DeviceState.READY, DeviceState.SERVING, DeviceState.QUARANTINED})


def _devices(client: Client) -> list[KnownDevice]:
    """All that control knows; none while it can't tell, or the worker is not there yet."""
    try:
        return client.devices(timeout=ASK_TIMEOUT) if client.kinds(timeout=ASK_TIMEOUT) else []
    except DeadlineExceeded:
        return []


def _is_up(device: KnownDevice) -> bool:
    """Whether a board does what it shall: whoever holds it, waits for it, or has it shut away."""
    return device.fresh and device.report.state in _UP


_KEPT = ("broker", "rack", "worker", "profiles", "control.db*", "*.log", "farm.json")
"""What a farm has in its directory. Not all that is there: it may be one that somebody named."""


def _lock(directory: Path) -> int:
    """Take the directory for us alone.

    Raises:
        InvalidRequest: it can't be made or written.
        Conflict: another `icebus up` runs in it.
    """
    try:
        make_private_folder(directory)
        descriptor = open_private(lock_path(directory))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequest(
            f"no farm can be kept in {str(directory)!r} ({reason}); name another directory with "
            "--directory"
        ) from None
    if not lock(descriptor, Deadline.after(CLAIM_TIME)):
        os.close(descriptor)
        raise Conflict(
            f"a farm is up already in {directory}; `icebus down {shlex.quote(str(directory))}` "
            "takes it down, --directory names another place"
        )
    return descriptor
