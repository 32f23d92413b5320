"""An accepted evaluation: what it is measured with, and what the journal keeps of it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from icebus.schemas.errors import IcebusError, InvalidRequest
from icebus.schemas.files import File
from icebus.schemas.measuring import Failure, Outcome
from icebus.schemas.message import now

LONGEST_ENTRY = 64 << 10
"""Bytes of JSON that an evaluation is described with, mostly the client's annotations: they go back
with its outcome, which has to fit into one message."""


class Entry(Outcome):
    """An accepted evaluation as the journal describes it; ``at`` is when it was accepted."""

    def json_text(self) -> str:
        """What the journal keeps.

        Raises:
            InvalidRequest: it is too long.
        """
        described = self.model_dump_json()
        if len(described.encode()) > LONGEST_ENTRY:
            raise InvalidRequest(
                f"{self.bitstream}: its annotations are too long; keep them by the evaluation's id "
                f"instead, or below {LONGEST_ENTRY} bytes",
                limit=LONGEST_ENTRY,
            )
        return described

    def envelope(self) -> dict[str, object]:
        """What its outcome says besides what came out, as of now."""
        return {**{name: getattr(self, name) for name in Outcome.model_fields}, "at": now()}

    def failure(self, error: IcebusError) -> Failure:
        """Its outcome, when it will have no result."""
        return Failure(**self.envelope(), error=error)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that has no outcome yet.

    Attributes:
        entry: as the journal describes it.
        file: what is measured.
        args: how, as the kind's model says.
    """

    entry: Entry
    file: File
    args: BaseModel

    @classmethod
    def accepted(cls, serial: str, file: File, batch: str, args: BaseModel) -> Evaluation:
        """One that is accepted now."""
        entry = Entry(
            serial=serial,
            evaluation=file.id,
            batch=batch,
            bitstream=file.name,
            sha256=file.hash,
            annotations=file.annotations,
            at=now(),
        )
        return cls(entry, file, args)

    @property
    def id(self) -> str:
        """The id that the client gave it."""
        return self.entry.evaluation
