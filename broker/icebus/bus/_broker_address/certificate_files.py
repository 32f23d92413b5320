"""The certificates of an address as files, for programs that take them from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from icebus.schemas.programs.private_files import make_private_folder, write_private


class HasCertificates(Protocol):
    """What has certificates and a key, as PEM, each None where there is none."""

    @property
    def ca(self) -> str | None:
        """Whom to trust."""

    @property
    def certificate(self) -> str | None:
        """Our own."""

    @property
    def key(self) -> str | None:
        """Of our own."""


@dataclass(frozen=True)
class CertificateFiles:
    """Where they are; None for what there is not.

    Attributes:
        ca: of the authorities to trust; None to trust those of the system.
        certificate: our own.
        key: of our own.
    """

    ca: Path | None
    certificate: Path | None
    key: Path | None

    @classmethod
    def write(cls, folder: Path, said: HasCertificates) -> Self:
        """Write them into a folder, each for its owner only; what is not said any more goes.

        Args:
            folder: made when there is something to put into it.
            said: what to write.
        """

        def written(name: str, text: str | None) -> Path | None:
            path = folder / name
            if text is None:
                path.unlink(missing_ok=True)
                return None
            make_private_folder(folder)
            write_private(path, text)
            return path

        return cls(
            ca=written("trusted.pem", said.ca),
            certificate=written("certificate.pem", said.certificate),
            key=written("certificate.key", said.key),
        )
