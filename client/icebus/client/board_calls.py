"""The calls that a batch makes to its boards' workers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from pydantic import JsonValue

from icebus.client.bitstreams import Bitstream, Item
from icebus.client.conversation import Send
from icebus.client.link import Link, read_answer
from icebus.client.reservation import Reservation
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BlobMissing, IcebusError, RemoteError
from icebus.schemas.files import File

TIMEOUT = 30.0
"""Seconds for a worker to answer a call; it answers within milliseconds."""

BLOB_ATTEMPTS = 4
"""Times to send files that the worker says it lacks."""

Answered = Callable[[Send[Item], IcebusError | None], None]
"""Called, on the dispatcher or at once, when a call was accepted (None) or not."""


class Caller:
    """Sends what an account wants sent, files first."""

    def __init__(self, link: Link, reservation: Reservation, batch: str, *, validate: bool) -> None:
        self._link = link
        self._reservation = reservation
        self._batch = batch
        self._validate = validate

    def send(self, send: Send[Item], answered: Answered, attempt: int = 1) -> None:
        """Call `evaluate` on one board; files that the worker lacks are sent again."""
        worker = self._reservation.device(send.serial).worker
        call = Call(
            reservation=self._reservation.id,
            serials=[send.serial],
            args={
                "bitstreams": [_file(slot.evaluation, slot.item.bitstream) for slot in send.slots],
                "batch": self._batch,
                "more": send.more,
                "validate": self._validate,
            },
        )
        try:
            self._link.blobs.send(worker, [slot.item.bitstream.blob for slot in send.slots])
            answer = self._link.call(worker, "evaluate", call, Deadline.after(TIMEOUT))
        except IcebusError as error:
            answered(send, error)
        else:
            answer.add_done_callback(partial(self._on_answer, send, answered, attempt))

    def _on_answer(
        self, send: Send[Item], answered: Answered, attempt: int, answer: Future[JsonValue]
    ) -> None:
        try:
            results = read_answer(answer.result(), CallResults)
            if (info := results.errors.get(send.serial)) is not None:
                raise IcebusError.from_info(info)
            if send.serial not in results.results:
                raise RemoteError(f"the worker said nothing about device {send.serial}")
        except BlobMissing as error:
            if attempt >= BLOB_ATTEMPTS:
                answered(send, error)
                return
            self._link.blobs.forget(self._reservation.device(send.serial).worker)
            self.send(send, answered, attempt + 1)
        except IcebusError as error:
            answered(send, error)
        else:
            answered(send, None)


def _file(evaluation: str, bitstream: Bitstream) -> dict[str, JsonValue]:
    return File(
        id=evaluation,
        name=bitstream.name,
        annotations=dict(bitstream.annotations),
        sha256=bitstream.blob.sha256,
    ).model_dump(mode="json", exclude_none=True)
