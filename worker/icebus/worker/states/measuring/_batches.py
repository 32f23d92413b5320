"""Counts the outcomes of each batch, so that its end is published exactly once. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EndedBatch:
    """A batch of which every evaluation has had its outcome."""

    name: str
    results: int
    failures: int


@dataclass
class _Batch:
    more: bool = True
    outstanding: int = 0
    results: int = 0
    failures: int = 0


class Batches:
    """The batches of one device that have not finished."""

    def __init__(self) -> None:
        self._open: dict[str, _Batch] = {}

    def accept(self, name: str, evaluations: int, more: bool) -> EndedBatch | None:
        """Evaluations were accepted; ``more`` says whether others of the batch will follow.

        Returns the end of the batch, if all its outcomes were there already.
        """
        batch = self._open.setdefault(name, _Batch())
        batch.more = more
        batch.outstanding += evaluations
        return self._end(name, batch)

    def end_one(self, name: str, succeeded: bool) -> EndedBatch | None:
        """An evaluation of the batch has its outcome; returns the batch's end if that was all."""
        batch = self._open.get(name)
        if batch is None:
            return None
        batch.outstanding -= 1
        batch.results += succeeded
        batch.failures += not succeeded
        return self._end(name, batch)

    def close(self, name: str) -> EndedBatch | None:
        """No more of the batch will be accepted; returns its end if all its outcomes are there."""
        batch = self._open.get(name)
        if batch is None:
            return None
        batch.more = False
        return self._end(name, batch)

    def abandon(self) -> list[EndedBatch]:
        """Nothing more will come: the ends of all batches."""
        ended = [
            EndedBatch(name, batch.results, batch.failures) for name, batch in self._open.items()
        ]
        self._open.clear()
        return ended

    def _end(self, name: str, batch: _Batch) -> EndedBatch | None:
        if batch.more or batch.outstanding > 0:
            return None
        del self._open[name]
        return EndedBatch(name, batch.results, batch.failures)
