"""The folder of a broker's certificates: its own, its authority's, and whom that has vouched for.

The authority's key never leaves it. Whoever may read the folder can pose as anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icebus.broker.tls.authority import Authority, Issued, Revoked, check_pair, expiry_of
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Id
from icebus.schemas.message import invalid
from icebus.schemas.private_files import make_private_folder, write_private

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
        made = self._open().for_broker(listening.hosts)
        write_private(self.key, made.key)
        write_private(self.certificate, made.certificate)
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

    # --- those of components -------------------------------------------------------------------

    def issue(self, name: str) -> Issued:
        """Vouch for a component; what it had before stays good."""
        made = self._open().for_component(name)
        register = self._read()
        entry = _Component(name=name, serial=f"{made.serial:x}", expires=made.expires)
        self._write(_Register(issued=[*register.issued, entry]))
        return made

    def revoke(self, name: str) -> None:
        """Have nothing count that was issued to that name."""
        self._revoke(lambda each: each.name == name)

    def keep_only(self, names: frozenset[str]) -> None:
        """Have nothing count that was issued to anybody else."""
        self._revoke(lambda each: each.name not in names)

    def ends_by_name(self) -> dict[str, datetime]:
        """When the newest certificate that counts ends, of each component that has one."""
        ends: dict[str, datetime] = {}
        for each in self._read().issued:
            if each.revoked is None:
                ends[each.name] = max(each.expires, ends.get(each.name, each.expires))
        return ends

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
        write_private(self.revocations, self._open().revocations(revoked))

    def _open(self) -> Authority:
        try:
            return Authority(self.authority.read_text(), self._authority_key.read_text())
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
