"""The calls that a batch makes to its boards' workers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial

from pydantic import JsonValue

from icebus.client._connection.connection import Connection
from icebus.client._evaluating.acknowledging import Acknowledger
from icebus.client._evaluating.bitstreams import Item
from icebus.client._evaluating.board_queue import Send, Slot
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BlobMissing, IcebusError, QueueFull, RemoteError

TIMEOUT = 150.0
"""Seconds for a worker to answer a call. It answers within milliseconds, and that it is gone is
told otherwise; so this is for a broker that is away, and longer than a run bears that."""

INLINE = 8 << 10
"""Bytes of a packed file that may go inside a call: four times a typical bitstream. A call with as
many as a board is given at once stays far below what a broker takes."""

BLOB_ATTEMPTS = 4
"""Times to send files that the worker says it lacks."""

Answered = Callable[[Send[Item], IcebusError | None], None]
"""Called, on the dispatcher or at once, when a call was accepted (None) or not."""


class Caller:
    """Sends what an account wants sent, files first, and acknowledges outcomes along with it.

    Args:
        connection: to the farm.
        reservation: that holds the boards.
        acknowledger: of the reservation.
        batch: what the calls belong to.
        inline: whether small files go inside the calls, which is cheaper for a file that no other
            board of the same worker will be sent.
        validate: whether workers are to refuse broken bitstreams.
        args: what a measurement of the kind takes.
    """

    def __init__(
        self,
        connection: Connection,
        reservation: Reservation,
        acknowledger: Acknowledger,
        batch: str,
        *,
        inline: bool,
        validate: bool,
        args: Mapping[str, JsonValue],
    ) -> None:
        self._connection = connection
        self._reservation = reservation
        self._acknowledger = acknowledger
        self._batch = batch
        self._largest = INLINE if inline else 0
        self._validate = validate
        # Kinds of earlier versions know no such argument.
        self._args = {"args": dict(args)} if args else {}

    def send(self, send: Send[Item], answered: Answered, attempt: int = 1) -> None:
        """Call `evaluate` on one board; files that the worker lacks are sent again."""
        call = Call(
            reservation=self._reservation.id,
            serials=[send.serial],
            args={
                "bitstreams": [self._file(slot) for slot in send.slots],
                "batch": self._batch,
                "more": send.more,
                "validate": self._validate,
                "acknowledge": self._acknowledger.take(send.serial),
                **self._args,
            },
        )
        blobs = [slot.item.bitstream.blob for slot in send.slots]
        try:
            worker = self._reservation.device(send.serial).worker
            self._connection.blobs.send(worker, [b for b in blobs if len(b.packed) > self._largest])
            answer = self._connection.call(worker, "evaluate", call, Deadline.after(TIMEOUT))
        except IcebusError as error:
            answered(send, error)
        else:
            answer.add_done_callback(partial(self._on_answer, send, answered, attempt))

    def _on_answer(
        self, send: Send[Item], answered: Answered, attempt: int, answer: Future[CallResults]
    ) -> None:
        try:
            results = answer.result()
            if (info := results.errors.get(send.serial)) is not None:
                raise IcebusError.from_info(info)
            if send.serial not in results.results:
                raise RemoteError(f"the worker said nothing about device {send.serial}")
        except BlobMissing as error:
            if attempt >= BLOB_ATTEMPTS:
                answered(send, error)
                return
            self._connection.blobs.forget(self._reservation.device(send.serial).worker)
            self.send(send, answered, attempt + 1)
        except IcebusError as error:
            answered(send, error)
        else:
            answered(send, None)

    def _file(self, slot: Slot[Item]) -> dict[str, JsonValue]:
        bitstream = slot.item.bitstream
        blob = bitstream.blob
        file: dict[str, JsonValue] = {
            "id": slot.evaluation,
            "name": bitstream.name,
            "annotations": dict(bitstream.annotations),
        }
        if len(blob.packed) > self._largest:
            return {**file, "sha256": blob.sha256}
        return {**file, "data": b64encode(blob.packed).decode(), "encoding": blob.encoding}


def room(error: QueueFull, otherwise: int) -> int:
    """Evaluations that a board which refused some has room for."""
    capacity, depth = error.details.get("capacity"), error.details.get("depth")
    if isinstance(capacity, int) and isinstance(depth, int):
        return max(1, capacity - depth)
    return max(1, otherwise)
