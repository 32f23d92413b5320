"""The file that says which dashboard runs here: what makes links for it reads that."""

from __future__ import annotations

import contextlib
import ssl
import time
from html import escape
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icebus.broker.embedded import reachable
from icebus.bus import BrokerAddress
from icebus.client._profiles.farm_directory import state_directory
from icebus.client.dashboard.sign_in import Link, link_url, new_key
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.programs.private_files import make_private_folder, write_private

ANSWER_TIMEOUT = 2.0
"""Seconds for a dashboard of this machine to answer."""


class Running(BaseModel):
    """A dashboard that runs on this machine, or ran.

    Attributes:
        url: where it is reached.
        listens: address and port that it listens on.
        link: which links it takes.
        key: that they are signed with.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    listens: tuple[str, int]
    link: Link
    key: str = Field(repr=False)

    @property
    def answers(self) -> bool:
        """Whether it answers there, within a moment."""
        host, port = self.listens
        connection: HTTPConnection
        if self.url.startswith("https:"):
            # It is ours whatever name its certificate has, and is told nothing.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = HTTPSConnection(
                reachable(host), port, timeout=ANSWER_TIMEOUT, context=context
            )
        else:
            connection = HTTPConnection(reachable(host), port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request("GET", "/farm.json")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def make_link(self) -> str:
        """A link that signs in there."""
        return link_url(self.url, self.key, self.link, time.time())


class RunningFile:
    """Where a dashboard of this user for one farm says that it runs. Its owner's only.

    Args:
        address: of the farm's broker, and who the dashboard is there.
    """

    def __init__(self, address: BrokerAddress) -> None:
        name = quote(f"{address.user}@{address.host}", safe="@") + f"-{address.port}.json"
        self.path = state_directory() / "dashboards" / name

    def read(self) -> Running | None:
        """What it says; None where there is none."""
        try:
            return Running.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return None

    def key_for(self, link: Link) -> str:
        """The key for such links; of walls the one used before, so that links stay good."""
        before = self.read()
        if before is not None and link is before.link is Link.WALL and before.key:
            return before.key
        return new_key()

    def write(self, running: Running) -> None:
        """Say that one runs.

        Raises:
            InvalidRequest: the file can't be written.
        """
        try:
            make_private_folder(self.path.parent)
            write_private(self.path, running.model_dump_json() + "\n")
        except OSError as error:
            raise InvalidRequest(
                f"can't write {self.path} ({error.strerror}); name a folder that can be written in "
                "XDG_STATE_HOME"
            ) from None

    def remove(self, running: Running) -> None:
        """Take it back, unless links of it outlive it or another dashboard runs by now."""
        if running.link is not Link.WALL and self.read() == running:
            self.forget()

    def write_door(self, link: str) -> str:
        """The URL of a file of ours that leads a browser to a link.

        Arguments of a program, and so of a browser, can be read by everybody on a machine.
        """
        door = self.path.with_suffix(".html")
        write_private(
            door,
            f'<meta http-equiv="refresh" content="0; url={escape(link)}"><title>icebus</title>\n',
        )
        return door.as_uri()

    def forget(self) -> None:
        """Take back what one said that was killed."""
        for path in (self.path, self.path.with_suffix(".html")):
            with contextlib.suppress(OSError):
                path.unlink()
