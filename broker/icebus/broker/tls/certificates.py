"""The folder of a broker's certificates: its own, its authority's, and whom that has vouched for.

The authority's key never leaves it. Whoever may read the folder can pose as anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icebus.broker.tls.authority import (
    Authority,
    Issued,
    Revoked,
    blocks,
    check_pair,
    expiry_of,
    read_authorities,
)
from icebus.schemas.errors import Conflict, InvalidRequest
from icebus.schemas.ids import Id
from icebus.schemas.message import invalid
from icebus.schemas.programs.private_files import make_private_folder, write_private

SOON = timedelta(days=30)
"""How long before its end a certificate is warned of."""


class Listening(BaseModel):
    """Where a broker listens with TLS, and under which names.

    Attributes:
        address: to listen on.
        port: for people, who have passwords.
        component_port: for workers, controls and sites, who have certificates.
        hosts: names and addresses that it is reached by; the first stands in URLs.
        own: whether the farm's own authority vouches for the broker; else somebody else's does.
    """

    model_config = ConfigDict(frozen=True)

    address: str
    port: int = Field(ge=1, le=65535)
    component_port: int = Field(ge=1, le=65535)
    hosts: tuple[str, ...] = Field(min_length=1)
    own: bool = True


@dataclass(frozen=True)
class GivenCertificate:
    """A certificate for the broker that somebody else's authority has made, all as PEM.

    Attributes:
        certificate: with those that lead to its root.
        key: of the first of them.
        trusted: the root, for clients; None where every system trusts it.
    """

    certificate: str
    key: str = field(repr=False)
    trusted: str | None = None


class _Component(BaseModel):
    name: Id
    serial: str = Field(pattern=r"^[0-9a-f]{1,40}$")
    expires: datetime
    revoked: datetime | None = None
    replaced: datetime | None = None
    """When it counts no longer, because there is another: not yet, or else it is revoked."""
    authority: str = ""


class _Register(BaseModel):
    issued: list[_Component] = Field(default_factory=list)


class Certificates:
    """The files. Whoever changes them holds the lock of the broker's directory.

    Args:
        folder: made when there is something to put into it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "authority.pem"
        self.certificate = folder / "broker.pem"
        self.key = folder / "broker.key"
        self.revocations = folder / "revoked.pem"
        self._authority_key = folder / "authority.key"
        self._trusted = folder / "trusted.pem"
        self._register = folder / "issued.json"
        self._links = folder / "links.pem"

    # --- the broker's own ----------------------------------------------------------------------

    def prepare(self) -> None:
        """Make an authority, unless there is one."""
        if self.authority.exists():
            return
        make_private_folder(self.folder)
        made = Authority.create()
        write_private(self._authority_key, made.key)
        write_private(self.authority, made.certificate)
        self._write_revocations(_Register())

    def renew(self, listening: Listening) -> None:
        """Have the authority vouch for the broker anew."""
        made = self._open()[0].for_broker(listening.hosts)
        write_private(self.key, made.key)
        # With what leads those to it who know the former authority only.
        links = self._links.read_text() if self._links.exists() else ""
        write_private(self.certificate, made.certificate + links)
        self._trusted.unlink(missing_ok=True)

    def take(self, given: GivenCertificate) -> None:
        """Use a certificate that somebody else's authority has made.

        Raises:
            InvalidRequest: it and its key don't belong together, or can't be used.
        """
        check_pair(given.certificate, given.key)
        if given.trusted is not None:
            expiry_of(given.trusted)
        write_private(self.key, given.key)
        write_private(self.certificate, given.certificate)
        if given.trusted is None:
            self._trusted.unlink(missing_ok=True)
        else:
            write_private(self._trusted, given.trusted)

    def trusted(self, listening: Listening) -> str | None:
        """Whom clients have to trust, as PEM; None where their systems do."""
        if listening.own:
            return self.authority.read_text()
        return self._trusted.read_text() if self._trusted.exists() else None

    @property
    def ends(self) -> datetime:
        """When the broker's certificate ends."""
        return expiry_of(self.certificate.read_text())

    # --- the authority ---------------------------------------------------------------------------

    def replace_authority(self) -> None:
        """Have another authority vouch from now on; what the former vouched for stays good.

        Whatever is interrupted leaves one that works: the keys come first, and the certificates
        say which of them count.
        """
        authorities = self._open()
        made, link = Authority.succeed(authorities[0])
        links = [link, *blocks(self._links.read_text())] if self._links.exists() else [link]
        write_private(self._authority_key, "".join([made.key, *(a.key for a in authorities)]))
        write_private(self._links, "".join(links))
        known = [made.certificate, *(each.certificate for each in authorities)]
        write_private(self.authority, "".join(known))
        self._write_revocations(self._read())

    def end_former_authorities(self) -> None:
        """Have nothing count any more that another authority than the present one vouched for.

        Raises:
            InvalidRequest: there is none.
            Conflict: somebody would be shut out who has nothing newer.
        """
        present, *former = self._open()
        if not former:
            raise InvalidRequest("there is no former authority: `renew --authority` was not used")
        left = sorted(name for name, each in self._newest().items() if each.authority != present.id)
        if left:
            raise Conflict(
                f"the former authority vouched for {', '.join(left)}; give each a new certificate "
                f"first: `icebus-broker renew {left[0]} -o {left[0]}.json`"
            )
        write_private(self.authority, present.certificate)
        write_private(self._authority_key, present.key)
        self._links.unlink(missing_ok=True)
        self._write_revocations(self._read())

    @property
    def authority_ends(self) -> datetime:
        """When the present authority ends, and all that it has vouched for."""
        return expiry_of(self.authority.read_text())

    # --- those of components -------------------------------------------------------------------

    def issue(self, name: str) -> Issued:
        """Vouch for a component; what it had before stays good."""
        present = self._open()[0]
        made = present.for_component(name)
        register = self._read()
        entry = _Component(
            name=name, serial=f"{made.serial:x}", expires=made.expires, authority=present.id
        )
        self._write(_Register(issued=[*register.issued, entry]))
        return made

    def revoke(self, name: str) -> None:
        """Have nothing count that was issued to that name."""
        self._revoke(lambda each: each.name == name)

    def revoke_later(self, name: str, at: datetime) -> None:
        """Have nothing count from then on that was issued to that name."""
        register = self._read()
        issued = [
            each.model_copy(update={"replaced": min(at, each.replaced or at)})
            if each.name == name and each.revoked is None
            else each
            for each in register.issued
        ]
        if issued != register.issued:
            self._write(_Register(issued=issued))

    def revoke_replaced(self, now: datetime) -> None:
        """Have those count no longer whose time it is by :meth:`revoke_later`."""
        self._revoke(lambda each: each.replaced is not None and each.replaced <= now)

    def replaced_by_name(self) -> dict[str, list[datetime]]:
        """When certificates end before their time, because there are others, by component."""
        found: dict[str, list[datetime]] = {}
        for each in self._read().issued:
            if each.replaced is not None and each.revoked is None:
                found.setdefault(each.name, []).append(each.replaced)
        return found

    def keep_only(self, names: frozenset[str]) -> None:
        """Have nothing count that was issued to anybody else."""
        self._revoke(lambda each: each.name not in names)

    def ends_by_name(self) -> dict[str, datetime]:
        """When the newest certificate that counts ends, of each component that has one."""
        return {name: each.expires for name, each in self._newest().items()}

    def _newest(self) -> dict[str, _Component]:
        counting = (each for each in self._read().issued if each.revoked is None)
        return {each.name: each for each in sorted(counting, key=lambda each: each.expires)}

    def _revoke(self, concerned: Callable[[_Component], bool]) -> None:
        now = datetime.now(UTC)
        register = self._read()
        left = [each for each in register.issued if each.expires > now]
        fresh = [
            each.model_copy(update={"revoked": now})
            if each.revoked is None and concerned(each)
            else each
            for each in left
        ]
        if fresh != register.issued:
            changed = _Register(issued=fresh)
            self._write(changed)
            if fresh != left:
                self._write_revocations(changed)

    def _write_revocations(self, register: _Register) -> None:
        revoked = [
            Revoked(int(each.serial, 16), each.revoked)
            for each in register.issued
            if each.revoked is not None
        ]
        # OpenSSL wants a list by each authority; that all have all of them changes nothing.
        lists = [each.revocations(revoked) for each in self._open()]
        write_private(self.revocations, "".join(lists))

    def _open(self) -> list[Authority]:
        try:
            return read_authorities(self.authority.read_text(), self._authority_key.read_text())
        except FileNotFoundError as error:
            raise InvalidRequest(
                f"the authority's key is missing ({error.filename}); restore the folder from a "
                "backup"
            ) from None

    def _read(self) -> _Register:
        try:
            return _Register.model_validate_json(self._register.read_bytes())
        except FileNotFoundError:
            return _Register()
        except ValidationError as error:
            raise invalid(error, str(self._register)) from None

    def _write(self, register: _Register) -> None:
        write_private(self._register, register.model_dump_json(indent=2) + "\n")
