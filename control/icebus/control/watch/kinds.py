"""The kinds that workers offer, and which workers take what a reservation asks of a kind."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from jsonschema.exceptions import SchemaError

from icebus.control.watch.bounded_schemas import BoundedSchema, TooMuchWork
from icebus.schemas.components import KindInfo, WorkerKinds
from icebus.schemas.errors import IcebusError, InvalidRequest, KindFailed, UnknownKind
from icebus.schemas.wording import KINDS_AT_START

log = logging.getLogger(__name__)

LARGEST_SCHEMAS = 32 << 10
"""Bytes of all schemas of arguments of a worker; those of our kinds have some hundred."""

MOST_PROBLEMS = 20
"""Mistakes of one request that its refusal lists."""


class Kind:
    """A kind as one worker offers it.

    Args:
        name: of the kind.
        info: what the worker published.
        worker: that offers it.

    Attributes:
        name: of the kind.
        firmware: what a board may run for it.
        schema: of its arguments, as a text; workers of one version have the same.

    Raises:
        InvalidRequest: its schema of arguments is not a JSON Schema.
    """

    def __init__(self, name: str, info: KindInfo, worker: str) -> None:
        self.name = name
        self.worker = worker
        self.firmware = info.all_firmware
        self.schema = json.dumps(info.args, sort_keys=True)
        try:
            self._validator = BoundedSchema(info.args)
        except (SchemaError, RecursionError):
            raise InvalidRequest(f"the arguments of kind {name} have no valid schema") from None
        except TooMuchWork as error:
            raise InvalidRequest(f"the arguments of kind {name}: {error}") from None

    def check(self, args: Mapping[str, Any]) -> None:
        """Refuse arguments that this worker would not take.

        Raises:
            InvalidRequest: where they are wrong and how.
            KindFailed: the schema can't be followed, which is its worker's mistake.
        """
        try:
            # Numbers that JSON can't write would not reach the worker.
            json.dumps(args, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"args of kind {self.name} are not JSON: {error}") from None
        try:
            errors = self._validator.errors(args, MOST_PROBLEMS)
        except Exception as error:  # noqa: BLE001 (a schema can be anything)
            mistake = (
                f"the schema that worker {self.worker} gave kind {self.name} can't be followed: "
                f"{error}"[:300]
            )
            log.warning("%s", mistake, extra={"subject": self.worker})
            raise KindFailed(
                f"{mistake}; ask with fewer values, or have the kind made simpler on that worker",
                kind=self.name,
                worker=self.worker,
            ) from None
        if not errors:
            return
        problems = [
            {"field": ".".join(map(str, each.absolute_path)), "problem": each.message[:200]}
            for each in errors
        ]
        listing = "; ".join(": ".join(filter(None, each.values())) for each in problems[:5])
        raise InvalidRequest(f"args of kind {self.name}: {listing}", problems=problems)


def read_kinds(worker: str, message: WorkerKinds) -> dict[str, Kind]:
    """The kinds that a worker published, ready to check arguments against.

    Raises:
        InvalidRequest: one of them has no valid schema, or they are too large.
    """
    size = sum(len(json.dumps(info.args)) for info in message.kinds.values())
    if size > LARGEST_SCHEMAS:
        raise InvalidRequest(
            f"the kinds of worker {worker} have {size} bytes of schemas; at most {LARGEST_SCHEMAS} "
            "are followed",
            limit=LARGEST_SCHEMAS,
        )
    return {name: Kind(name, info, worker) for name, info in message.kinds.items()}


class KindLookup:
    """Which workers take which requests, looked up once for requests that are alike.

    Args:
        offers: the kinds that each worker offers.
    """

    def __init__(self, offers: Mapping[str, Mapping[str, Kind]]) -> None:
        self._offers = offers
        self._failed: dict[str, IcebusError] = {}
        self._known: dict[tuple[str, str], dict[str, tuple[str, ...]] | IcebusError] = {}

    def offering(self, kind: str) -> dict[str, tuple[str, ...]]:
        """The firmware that a kind can be served with, by the workers that offer it.

        Raises:
            UnknownKind: there are none.
        """
        return {worker: each.firmware for worker, each in self._offering(kind).items()}

    def accepting(self, kind: str, args: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        """The firmware that will do for a request, by the workers that take its arguments.

        Raises:
            UnknownKind: nobody offers the kind.
            InvalidRequest: none of those who do takes the arguments.
            KindFailed: what one of them says of its arguments can't be followed.
        """
        key = (kind, json.dumps(args, sort_keys=True))
        if key not in self._known:
            try:
                self._known[key] = self._accepting(self._offering(kind), args)
            except (UnknownKind, InvalidRequest, KindFailed) as refusal:
                self._known[key] = refusal
        found = self._known[key]
        if isinstance(found, IcebusError):
            raise found
        return found

    def _accepting(
        self, offers: Mapping[str, Kind], args: Mapping[str, Any]
    ) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        # Nearly always all workers have the same schema, and to follow it takes its time.
        refusals: dict[str, IcebusError | None] = {}
        for worker, kind in sorted(offers.items()):
            if kind.schema not in refusals:
                refusals[kind.schema] = self._refusal(kind, args)
            if refusals[kind.schema] is None:
                found[worker] = kind.firmware
        refused = [each for each in refusals.values() if each is not None]
        if refused and not found:
            # What is wrong with the arguments says more than that one of the workers is broken.
            raise min(refused, key=lambda each: isinstance(each, KindFailed))
        return found

    def _refusal(self, kind: Kind, args: Mapping[str, Any]) -> IcebusError | None:
        # One that can't be followed once takes as long for each of all requests that wait.
        if (failed := self._failed.get(kind.schema)) is not None:
            return failed
        try:
            kind.check(args)
        except KindFailed as refusal:
            self._failed[kind.schema] = refusal
            return refusal
        except InvalidRequest as refusal:
            return refusal
        return None

    def _offering(self, kind: str) -> dict[str, Kind]:
        found = {worker: kinds[kind] for worker, kinds in self._offers.items() if kind in kinds}
        if not found:
            known = sorted({name for kinds in self._offers.values() for name in kinds})
            listing = f"they offer {', '.join(known)}" if known else "none of them offers any"
            raise UnknownKind(
                f"no worker offers kind {kind!r}; {listing}; {KINDS_AT_START}",
                kind=kind,
                known=known,
            )
        return found
