"""A broker's directory: who it knows, what it listens on, and the files Mosquitto reads.

Everything in it is private to its owner. Several programs may change it at once, and a broker that
runs on it learns of the change: the embedded one of ``icebus up`` or ``icebus-broker run``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icebus.broker.access import CERTIFIED, Principal, access_list, check_principals
from icebus.broker.accounts import LONGEST_OVERLAP, OVERLAP, barred, good, standing
from icebus.broker.bridge import Upstream, bridge
from icebus.broker.claim import Claim
from icebus.broker.mosquitto import (
    LOOPBACK,
    check_name,
    configuration,
    is_hash_of,
    password_file,
)
from icebus.broker.reading import Reading
from icebus.broker.tls.authority import Issued
from icebus.broker.tls.certificates import Certificates, GivenCertificate, Listening
from icebus.bus import BrokerAddress
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import Conflict, InvalidRequest, UnknownPrincipal
from icebus.schemas.ids import BROKER, new_id
from icebus.schemas.message import invalid
from icebus.schemas.programs.file_lock import lock
from icebus.schemas.programs.private_files import make_private_folder, open_private, write_private
from icebus.schemas.topics import DEFAULT_ROOT, Role

LOCK_TIMEOUT = 5.0
"""Seconds to wait for another program that changes the same directory, which takes it milliseconds;
making a certificate takes a second on a slow machine."""


class Settings(BaseModel):
    """What a broker listens on, and the root of its topics.

    Attributes:
        host: where it listens without TLS; with TLS besides, on loopback only.
        port: likewise.
        tls: where it listens with TLS; None for a broker that is reached without.
    """

    model_config = ConfigDict(frozen=True)

    host: str = LOOPBACK
    port: int = Field(ge=1, le=65535)
    root: str = DEFAULT_ROOT
    tls: Listening | None = None


class _Contents(BaseModel):
    settings: Settings | None = None
    upstream: Upstream | None = None
    principals: list[Principal] = Field(default_factory=list)
    overlap: timedelta = OVERLAP


class BrokerDirectory:
    """The files of one broker.

    Args:
        path: made if missing.

    Raises:
        InvalidRequest: Mosquitto's configuration can't name it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        check_name(self.path)
        self.claim = Claim(self.path)
        self.reading = Reading(self.path, self.claim)
        self.certificates = Certificates(self.path / "tls")
        self._bridge_folder = self.path / "bridge"

    @property
    def exists(self) -> bool:
        """Whether anything was ever configured here."""
        return (self.path / "principals.json").exists()

    @property
    def settings(self) -> Settings | None:
        """What the broker listens on; None when it was never configured."""
        return self._read().settings

    @property
    def principals(self) -> dict[str, Principal]:
        """Everybody the broker knows, by id."""
        return {principal.id: principal for principal in self._read().principals}

    @property
    def version(self) -> tuple[int, int, int]:
        """Differs after every change of what is known here; cheap, to be compared."""
        try:
            found = (self.path / "principals.json").stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def configure(self, settings: Settings, given: GivenCertificate | None = None) -> None:
        """Set what the broker listens on.

        Args:
            settings: with TLS, the certificates are made that are missing or no longer fit.
            given: a certificate that somebody else's authority made.

        Raises:
            Conflict: a broker runs on this directory, and Mosquitto can't move while it runs.
            InvalidRequest: the certificate given can't be used.
        """
        if settings.tls is not None and settings.host != LOOPBACK:
            raise InvalidRequest(
                f"a broker with TLS listens without it on loopback only, not on {settings.host}"
            )
        before = self.settings
        with self._change(settings):
            if (tls := settings.tls) is None:
                return
            self.certificates.prepare()
            if given is not None:
                self.certificates.take(given)
            elif tls.own and (before is None or before.tls is None or before.tls != tls):
                self.certificates.renew(tls)

    def renew(self, given: GivenCertificate | None = None) -> None:
        """Give the broker a new certificate; one that runs takes it at once.

        Raises:
            InvalidRequest: it has no TLS, or its certificate is somebody else's and none is given.
        """
        tls = self._tls()
        if not tls.own and given is None:
            raise InvalidRequest(
                "somebody else's authority made this broker's certificate; get a new one there and "
                "give it with --certificate and --key"
            )
        with self._change():
            if given is not None:
                self.certificates.take(given)
            else:
                self.certificates.renew(tls)

    @property
    def trusted(self) -> str | None:
        """Whom clients have to trust, as PEM; None where their systems do, or without TLS."""
        settings = self.settings
        if settings is None or settings.tls is None:
            return None
        return self.certificates.trusted(settings.tls)

    def renew_authority(self) -> None:
        """Have another authority vouch from now on; the former stays good besides.

        Raises:
            InvalidRequest: the broker has no TLS.
        """
        tls = self._tls()
        with self._change():
            self.certificates.replace_authority()
            if tls.own:
                self.certificates.renew(tls)

    def end_former_authorities(self) -> None:
        """Have nothing count any more that a former authority vouched for.

        Raises:
            InvalidRequest: the broker has no TLS, or there is none.
            Conflict: a component has nothing newer.
        """
        tls = self._tls()
        with self._change():
            self.certificates.end_former_authorities()
            if tls.own:
                self.certificates.renew(tls)

    def issue(
        self, name: str, void_others: bool = False, overlap: timedelta | None = None
    ) -> Issued:
        """A new certificate for a worker, a control or a site.

        Args:
            name: of the principal.
            void_others: have those not count any more that it has already.
            overlap: how long they count yet; None for not at all. Only with ``void_others``.

        Raises:
            InvalidRequest: the broker has no TLS, or it is somebody with a password.
            UnknownPrincipal: nobody of that name is known.
        """
        self._tls()
        principal = self.principals.get(name)
        if principal is None:
            raise UnknownPrincipal(f"nobody here is called {name!r}; `icebus-broker list`")
        if principal.role not in CERTIFIED:
            raise InvalidRequest(f"{name!r} is a {principal.role} and has a password instead")
        with self._change():
            if void_others and not overlap:
                self.certificates.revoke(name)
            elif void_others and overlap:
                self.certificates.revoke_later(name, datetime.now(UTC) + overlap)
            return self.certificates.issue(name)

    def address_of(self, principal: Principal, issued: Issued | None = None) -> BrokerAddress:
        """How a principal connects from elsewhere.

        Args:
            principal: who.
            issued: its certificate, of which only its owner has the key.

        Raises:
            InvalidRequest: the broker has no TLS, so that it is reached on this machine only.
        """
        tls = self._tls()
        settings = self.settings
        certified = principal.role in CERTIFIED
        return BrokerAddress(
            host=tls.hosts[0],
            port=tls.component_port if certified else tls.port,
            user=principal.id,
            password="" if certified else principal.password,
            login="" if certified else principal.login or "",
            root=settings.root if settings else DEFAULT_ROOT,
            tls=True,
            ca=self.certificates.trusted(tls),
            certificate=issued.certificate if issued else None,
            key=issued.key if issued else None,
            ends=issued.expires if issued else principal.expires,
        )

    def _tls(self) -> Listening:
        settings = self.settings
        if settings is None or settings.tls is None:
            raise InvalidRequest(
                f"the broker in {self.path} has no TLS; `icebus-broker init` makes one that has"
            )
        return settings.tls

    def bridge(self, upstream: Upstream | None) -> None:
        """Make this the broker of a site of a larger farm, or of a farm by itself.

        Raises:
            InvalidRequest: it was not configured, or the farm's topics have another root.
            Conflict: a broker runs on this directory, and Mosquitto can't change that meanwhile.
        """
        settings = self.settings
        if settings is None:
            raise InvalidRequest(
                f"there is no broker in {self.path}; make one with `icebus-broker init`"
            )
        if upstream is not None:
            bridge(upstream, settings.root, self._bridge_folder)
        with self._change() as known:
            if self.pid is not None:
                raise self.claim.in_use()
            known.upstream = upstream and upstream.replacing(known.upstream)

    def add_principals(
        self, principals: Iterable[Principal], settings: Settings | None = None
    ) -> dict[str, Principal]:
        """Add principals, or change those of the same id; returns everybody known then.

        One that is known in the same role and comes without a password of its own keeps the one
        it has, so that passwords survive restarts; but not when only the hash of that is left.

        With ``settings``, also :meth:`configure`.

        Raises:
            InvalidRequest: the principals are ambiguous; nothing was changed.
            Conflict: as for :meth:`configure`.
        """
        given = list(principals)
        check_principals(given)
        with self._change(settings) as known:
            merged = {principal.id: principal for principal in known.principals}
            for principal in given:
                before = merged.get(principal.id)
                chosen = "password" in principal.model_fields_set
                if (
                    before is None
                    or before.role is not principal.role
                    or chosen
                    or not before.password
                ):
                    merged[principal.id] = _continuing(before, principal)
            known.principals = list(merged.values())
        return merged

    @property
    def overlap(self) -> timedelta:
        """How long a password stays good that is replaced."""
        return self._read().overlap

    def set_overlap(self, overlap: timedelta) -> None:
        """Have passwords that are replaced from now on stay good for that long; 0 for not at all.

        Raises:
            InvalidRequest: it is too long.
        """
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise InvalidRequest(
                f"a password that is replaced stays good for {LONGEST_OVERLAP.days}d at most"
            )
        with self._change() as known:
            known.overlap = overlap

    def set_groups(self, name: str, groups: Iterable[str]) -> None:
        """Put a principal into these groups, and into no others.

        Raises:
            UnknownPrincipal: nobody of that name is known.
        """
        update = {"groups": tuple(sorted(set(groups)))}
        self.change(name, lambda before: before.model_copy(update=update))

    def remove_principal(self, name: str) -> None:
        """Forget a principal; a running broker ends its connections.

        Raises:
            UnknownPrincipal: nobody of that name is known.
            InvalidRequest: it is the broker's own service.
        """
        if name == BROKER:
            raise InvalidRequest(f"{BROKER!r} is the broker's own service; it can't be removed")
        with self._change() as known:
            left = [principal for principal in known.principals if principal.id != name]
            if len(left) == len(known.principals):
                raise UnknownPrincipal(f"nobody here is called {name!r}; `icebus-broker list`")
            known.principals = left

    def change(
        self, name: str, change: Callable[[Principal], Principal], *, reload: bool = True
    ) -> Principal:
        """Change what is known of somebody, alone.

        Args:
            name: who.
            change: makes the new from the old; what it raises is raised, and nothing changed.
            reload: whether a running broker learns of it now, or at the next :meth:`reload`.

        Raises:
            UnknownPrincipal: nobody of that name is known.
        """
        with self._change(reload=reload) as known:
            for index, each in enumerate(known.principals):
                if each.id == name and name != BROKER:
                    changed = known.principals[index] = change(each)
                    return changed
            raise UnknownPrincipal(f"nobody here is called {name!r}; `icebus-broker list`")

    def hash_read(self, principal: Principal) -> str | None:
        """The hash of a password that is kept in the clear, as Mosquitto has it."""
        passwords = self.path / "passwords"
        for line in passwords.read_text().splitlines() if passwords.exists() else ():
            name, _, hash_ = line.partition(":")
            if name == principal.logs_in_as and is_hash_of(principal.password, hash_):
                return hash_
        return None

    def shut_out_ended(self) -> None:
        """Have the broker refuse those whose account or invitation has ended."""
        with self._change():
            pass

    def reload(self) -> None:
        """Have a broker that runs here read who is known; it ends connections of the others."""
        with self._lock():
            self.reading.tell()

    def wait_until_started(self, deadline: Deadline) -> None:
        """Return when there is a broker again, which is just being started anew; else at once."""
        pause = threading.Event()
        while self.pid is None and self.reading.starts_soon and not deadline.expired:
            pause.wait(0.02)

    @property
    def configuration(self) -> Path:
        """Where ``mosquitto.conf`` is."""
        return self.path / "mosquitto.conf"

    @property
    def pid(self) -> int | None:
        """The pid of the broker that runs on this directory, or None."""
        return self.claim.pid

    # --- files --------------------------------------------------------------------------------

    def _read(self) -> _Contents:
        path = self.path / "principals.json"
        try:
            return _Contents.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _Contents()
        except ValidationError as error:
            raise invalid(error, str(path)) from None
        except PermissionError:
            raise InvalidRequest(
                f"{path} belongs to somebody else; run this as its owner"
            ) from None

    @contextmanager
    def _change(
        self, settings: Settings | None = None, *, reload: bool = True
    ) -> Iterator[_Contents]:
        """Change what is known, alone; then write Mosquitto's files and have them read."""
        with self._lock():
            known = self._read()
            if settings is not None and settings != known.settings and self.pid is not None:
                raise self.claim.in_use()
            known.settings = settings or known.settings
            yield known
            self._write(known)
            if reload:
                self.reading.tell()

    def _write(self, known: _Contents) -> None:
        if known.settings is not None and all(p.id != BROKER for p in known.principals):
            known.principals.append(Principal(id=BROKER, role=Role.BROKER))
        check_principals(known.principals)
        now = datetime.now(UTC)
        known.principals = [
            each.model_copy(update={"others": good(each, now), "barred_until": barred(each, now)})
            for each in known.principals
        ]
        root = known.settings.root if known.settings else DEFAULT_ROOT
        tls = known.settings.tls if known.settings else None
        with_password = [
            each for each in standing(known.principals) if tls is None or each.role not in CERTIFIED
        ]
        if tls is not None:
            certified = {each.id for each in known.principals if each.role in CERTIFIED}
            self.certificates.keep_only(frozenset(certified))
            self.certificates.revoke_replaced(now)
        passwords = self.path / "passwords"
        before = passwords.read_text() if passwords.exists() else ""
        write_private(passwords, password_file(with_password, before))
        write_private(self.path / "acl", access_list(standing(known.principals), root))
        write_private(self.path / "principals.json", known.model_dump_json(indent=2) + "\n")
        if (chosen := known.settings) is not None:
            text = configuration(self.path, chosen.port, chosen.host, chosen.tls, self.certificates)
            if known.upstream is not None:
                text += "\n" + bridge(known.upstream, chosen.root, self._bridge_folder)
            write_private(self.configuration, text)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile."""
        make_private_folder(self.path)
        descriptor = open_private(self.path / "principals.lock")
        try:
            if not lock(descriptor, Deadline.after(LOCK_TIMEOUT)):
                raise Conflict(
                    f"another program changes {self.path} and does not come to an end; see which "
                    f"one with `fuser {self.path / 'principals.lock'}`, and end it"
                )
            yield
        finally:
            os.close(descriptor)


def _continuing(before: Principal | None, principal: Principal) -> Principal:
    """A principal that is added, or takes the place of the one before, which it goes on being."""
    if before is None or before.role is not principal.role:
        return principal.model_copy(update={"incarnation": new_id()})
    update: dict[str, object] = {"incarnation": before.incarnation}
    if "groups" not in principal.model_fields_set:
        update["groups"] = before.groups
    return principal.model_copy(update=update)
