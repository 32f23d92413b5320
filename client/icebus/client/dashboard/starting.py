"""A dashboard for the farm of a profile: what the command starts, and what of it is refused."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable

from icebus.bus import BrokerAddress, Bus, check_role
from icebus.client._profiles.profile import FARM_VARIABLE
from icebus.client._profiles.saved_profiles import SavedProfiles
from icebus.client._version import version
from icebus.client.dashboard.application import make_application
from icebus.client.dashboard.farm_document import FarmDocument, SignInDocument
from icebus.client.dashboard.relay import Relay
from icebus.client.dashboard.running import Running, RunningFile
from icebus.client.dashboard.server import DashboardServer
from icebus.client.dashboard.settings import Settings
from icebus.client.dashboard.sign_in import Account, Link, SignIn
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest, WrongRole
from icebus.schemas.ids import is_id
from icebus.schemas.topics import Role

COMMAND = "icebus dashboard --link"

CLOSE_TIMEOUT = 2.0


class Dashboard:
    """Serves the page for one farm.

    Args:
        address: the broker, and whose account links are exchanged for. Nobody else signs in by it.
        settings: where to listen.
        farm: its name, for people.
        link: which links are taken.
        find_account: the same account as it is by then.

    Raises:
        InvalidRequest: the account is not a person's, or the settings can't be met.
    """

    def __init__(
        self,
        address: BrokerAddress,
        settings: Settings,
        farm: str,
        link: Link = Link.SIGN_IN,
        find_account: Callable[[], BrokerAddress] | None = None,
    ) -> None:
        if address.certificate is not None:
            raise InvalidRequest(
                f"{address.user} is a component, known by its certificate; a dashboard needs "
                "credentials of the port for people: icebus-broker add NAME --role observer -o FILE"
            )
        self._file = RunningFile(address)
        self._server = DashboardServer(settings)
        # Who has no password has none to give away.
        links = bool(address.password)
        key = self._file.key_for(link)
        self.running = Running(
            url=self._server.url,
            listens=(settings.host, self._server.port),
            link=link,
            key=key if links else "",
        )

        def account() -> Account:
            now = address if find_account is None else find_account()
            return Account(user=now.user, password=now.password, wall=link is Link.WALL)

        self._application = make_application(
            FarmDocument(
                farm=farm,
                root=address.root,
                version=version(),
                sign_in=SignInDocument(command=COMMAND) if links else None,
            ),
            Relay(address),
            SignIn(key, link, account) if links else None,
            settings.all_names,
        )

    @property
    def serves(self) -> bool:
        """Whether it still does."""
        return self._server.running

    def start(self, deadline: Deadline) -> None:
        """Serve, and say so in a file.

        Raises:
            IcebusError: it does not start.
        """
        self._server.start(self._application, deadline)
        self._file.write(self.running)

    def post(self, turn: Callable[[], None]) -> None:
        """Have something run at the next turn of its loop."""
        self._server.post(turn)

    def door(self) -> str:
        """What to open in a browser of this machine."""
        running = self.running
        return self._file.write_door(running.make_link()) if running.key else running.url

    def stop(self, deadline: Deadline) -> None:
        """End every connection, and serve no more."""
        self._file.remove(self.running)
        self._server.stop(deadline)


def check_reads_only(address: BrokerAddress, deadline: Deadline) -> None:
    """Refuse an account that may do more than look: a wall link gives its password away.

    Raises:
        InvalidRequest: it may.
        IcebusError: the broker can't be asked.
    """
    bus = Bus(address, name=f"{address.user}-dashboard", session_expiry=0)
    bus.connect(deadline)
    try:
        check_role(bus, Role.USER, "icebus", deadline)
    except WrongRole as wrong:
        if wrong.details["role"] == Role.OBSERVER:
            return
        raise
    finally:
        bus.close(Deadline.after(CLOSE_TIMEOUT))
    raise InvalidRequest(
        f"{address.user} may do more than look, and a link for a wall is for whoever finds it; "
        "name an observer: icebus-broker add wall --role observer -o wall.json, icebus --farm "
        "wall.json dashboard --wall"
    )


def farm_name(farm: str | None, address: BrokerAddress) -> str:
    """What a farm is called here.

    Args:
        farm: as `icebus --farm` has it.
        address: of its broker.
    """
    saved = SavedProfiles()
    named = farm or os.environ.get(FARM_VARIABLE)
    named = named or saved.current
    if named and is_id(named) and named in saved.names:
        return named
    return "local" if _is_here(address.host) else address.host


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
