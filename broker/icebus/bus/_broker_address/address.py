"""Where a broker is and who we are there: as one URL, or as a credentials file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from icebus.bus._broker_address.certificate_files import CertificateFiles
from icebus.bus._broker_address.credentials import Credentials
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import is_login, user_of
from icebus.schemas.programs.private_files import make_private_folder, write_private
from icebus.schemas.topics import DEFAULT_ROOT

PLAIN_PORT = 1883
TLS_PORT = 8883

MOSQUITTO_CLIENTS = ("mosquitto_sub", "mosquitto_pub", "mosquitto_rr")
"""Each reads the file of its name."""

LONGEST_OPTION = 1000
"""Characters of a line that they read whole: Mosquitto 2.0 has 1,024 (client_shared.c)."""

_EXAMPLE = "a broker's URL looks like mqtts://user:password@host:8883"
_ROOT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True)
class BrokerAddress:
    """A broker and the identity to use there.

    As a URL: ``mqtt://user:password@host:port/root`` (``mqtts`` for TLS); the root of the topics
    is ``icebus/v1`` when the path is empty.

    Attributes:
        login: the name to log in under; empty for that of the user. Somebody whose password was
            replaced has several.
        ends: when the account ends, as far as is known.
        ca: certificates of the authorities to trust, as PEM; None to trust those of the system.
        certificate: our own, as PEM, for brokers that know us by it; with ``key``.
        key: of our certificate, as PEM.
        started_by: the command that starts the farm, where it is one of this machine's owner; empty
            for a farm that others run, and where that is not known.
        reread: reads anew what this was read from, where somebody may replace it; raises
            InvalidRequest or OSError while it can't be read.
        keep: has what this was read from trust these authorities, as PEM, from now on; raises
            InvalidRequest or OSError where it can't be written.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    root: str = DEFAULT_ROOT
    tls: bool = False
    ca: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    login: str = ""
    ends: datetime | None = field(default=None, compare=False)
    started_by: str = field(default="", repr=False, compare=False)
    reread: Callable[[], BrokerAddress] | None = field(default=None, repr=False, compare=False)
    keep: Callable[[str], None] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, where: str) -> BrokerAddress:
        """Read a URL, or the credentials file of that path.

        Raises:
            InvalidRequest: it is neither, or names no user.
        """
        where = os.fspath(where) if isinstance(where, os.PathLike) else where
        if not isinstance(where, str):
            raise InvalidRequest(f"{_EXAMPLE}, and is text, not {type(where).__name__}")
        if "://" not in where:
            if "@" in where and not Path(where).exists():
                # A URL with a slip of the pen: its password is nothing for a log.
                raise InvalidRequest(_EXAMPLE)
            path = Path(where).absolute()
            return replace(
                cls.of(Credentials.read(path)),
                reread=lambda: cls.parse(str(path)),
                keep=partial(Credentials.keep_authorities, path),
            )
        return cls._parse_url(where)

    @classmethod
    def of(cls, credentials: Credentials) -> BrokerAddress:
        """The broker that credentials are for.

        Raises:
            InvalidRequest: their URL is none, or certificates come with one that has no TLS.
        """
        address = cls._parse_url(credentials.url)
        if not address.tls and (credentials.ca or credentials.certificate):
            raise InvalidRequest(
                "these credentials have certificates but a URL without TLS; it begins with mqtts://"
            )
        return replace(
            address,
            ca=credentials.ca,
            certificate=credentials.certificate,
            key=credentials.key,
            ends=credentials.expires,
        )

    @classmethod
    def _parse_url(cls, url: str) -> BrokerAddress:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidRequest(_EXAMPLE) from None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0:
            raise InvalidRequest(_EXAMPLE)
        if not parts.username:
            raise InvalidRequest(f"the broker's URL names no user; {_EXAMPLE}")
        root = parts.path.strip("/") or DEFAULT_ROOT
        check_root(root)
        tls = parts.scheme == "mqtts"
        login = unquote(parts.username)
        user = user_of(login) if is_login(login) else login
        return cls(
            host=parts.hostname,
            port=port or (TLS_PORT if tls else PLAIN_PORT),
            user=user,
            login=login if login != user else "",
            password=unquote(parts.password or ""),
            root=root,
            tls=tls,
        )

    @property
    def logs_in_as(self) -> str:
        """The name to log in under."""
        return self.login or self.user

    def url(self) -> str:
        """The address as a URL, with its password: never log it."""
        scheme = "mqtts" if self.tls else "mqtt"
        identity = quote(self.logs_in_as, safe="")
        if self.password:
            identity += f":{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{identity}@{host}:{self.port}/{self.root}"

    def credentials(self) -> Credentials:
        """The address as what stands in a credentials file."""
        return Credentials(
            url=self.url(),
            user=self.user,
            ca=self.ca,
            certificate=self.certificate,
            key=self.key,
            expires=self.ends,
        )

    def as_user(self, user: str, password: str) -> BrokerAddress:
        """The same broker for somebody else, who has no certificate."""
        return replace(
            self,
            user=user,
            password=password,
            login="",
            certificate=None,
            key=None,
            ends=None,
            reread=None,
            keep=None,
        )

    def write_mosquitto_options(self, folder: Path) -> None:
        """Write the files from which Mosquitto's clients connect as we do, into a folder.

        They read them where ``XDG_CONFIG_HOME`` names the folder, so that the password stands in
        no argument, where everybody on the machine would see it.

        Args:
            folder: made if missing.

        Raises:
            InvalidRequest: such a file can't say that, as it has one option a line.
        """
        options = ["-V mqttv5", f"-h {self.host}", f"-p {self.port}", f"-u {self.logs_in_as}"]
        if self.password:
            options.append(f"-P {self.password}")
        make_private_folder(folder)
        if self.tls:
            files = CertificateFiles.write(folder, self)
            options.append(f"--cafile {files.ca}" if files.ca else "--tls-use-os-certs")
            if files.certificate and files.key:
                options += [f"--cert {files.certificate}", f"--key {files.key}"]
        for option in options:
            if len(option.split()) > 2 or len(option) > LONGEST_OPTION:
                raise InvalidRequest(
                    f"Mosquitto's clients take no spaces and no more than {LONGEST_OPTION} "
                    f"characters in a file for {option.split()[0]}; choose another password "
                    "(`icebus passwd`), or a folder without spaces (XDG_STATE_HOME)"
                )
        for program in MOSQUITTO_CLIENTS:
            write_private(folder / program, "\n".join(options) + "\n")


def check_root(root: str) -> None:
    """Refuse what can't be the root of topics.

    Raises:
        InvalidRequest: a level is empty or holds a wildcard.
    """
    if _ROOT.fullmatch(root) is None:
        raise InvalidRequest(f"{root!r} can't be the root of topics; leave it out for the default")
