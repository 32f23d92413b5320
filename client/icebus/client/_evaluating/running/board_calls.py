"""The calls that a batch makes to its boards' workers."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial

from pydantic import JsonValue

from icebus.bus import Answer
from icebus.client._connection.connection import Connection
from icebus.client._evaluating.bitstreams import Item
from icebus.client._evaluating.distribution.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.running.acknowledging import Acknowledger
from icebus.client._json_values import json_object
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BlobMissing, IcebusError, InternalError, RemoteError
from icebus.schemas.wording import counted

log = logging.getLogger(__name__)

TIMEOUT = 150.0
"""Seconds for a worker to answer a call. It answers within milliseconds, and that it is gone is
told otherwise; so this is for a broker that is away, and longer than a run bears that."""

INLINE = 8 << 10
"""Bytes of a packed file that may go inside a call: four times a typical bitstream. A call with as
many as a board is given at once stays far below what a broker takes."""

BLOB_ATTEMPTS = 4
"""Times to send files that the worker says it lacks."""

OnAnswer = Callable[[EvaluateCall[Item], IcebusError | None], None]
"""Called, on the dispatcher or at once, when a call was accepted (None) or not."""


class BoardCalls:
    """Makes the calls of a batch, files first, and acknowledges outcomes along with it.

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
        self._closed = False
        # Kinds of earlier versions know no such argument.
        self._args = {"args": checked} if (checked := json_object(args, "args")) else {}

    def close(self) -> None:
        """Nobody waits for outcomes any more: send no call once more for files that it lacked."""
        self._closed = True

    def make(self, call: EvaluateCall[Item], answered: OnAnswer, attempt: int = 1) -> None:
        """Call `evaluate` on one board; files that the worker lacks are sent again."""
        try:
            answer = self._send(call)
        except Exception as error:  # noqa: BLE001 (whoever waits has to hear of it)
            answered(call, _as_icebus_error(error))
        else:
            answer.add_done_callback(partial(self._on_answer, call, answered, attempt))

    def _send(self, call: EvaluateCall[Item]) -> Answer[CallResults]:
        request = Call(
            reservation=self._reservation.id,
            serials=[call.serial],
            args={
                "bitstreams": [self._file(each) for each in call.evaluations],
                "batch": self._batch,
                "more": call.more,
                "validate": self._validate,
                "acknowledge": self._acknowledger.take(call.serial),
                **self._args,
            },
        )
        sent = counted(len(call.evaluations), "evaluation")
        log.info("batch %s: %s to %s", self._batch, sent, call.serial)
        blobs = [each.item.bitstream.blob for each in call.evaluations]
        large = [blob for blob in blobs if len(blob.packed) > self._largest]
        worker = self._reservation.device(call.serial).worker
        if large:
            self._connection.blobs.send(worker, large)
        return self._connection.call(worker, "evaluate", request, Deadline.after(TIMEOUT))

    def _on_answer(
        self,
        call: EvaluateCall[Item],
        answered: OnAnswer,
        attempt: int,
        answer: Future[CallResults],
    ) -> None:
        try:
            results = answer.result()
            if (info := results.errors.get(call.serial)) is not None:
                raise IcebusError.from_info(info)
            if call.serial not in results.results:
                raise RemoteError(f"the worker said nothing about device {call.serial}")
        except BlobMissing as error:
            if attempt >= BLOB_ATTEMPTS or self._closed:
                answered(call, error)
                return
            self._send_again(call, answered, attempt + 1)
        except Exception as error:  # noqa: BLE001 (whoever waits has to hear of it)
            answered(call, _as_icebus_error(error))
        else:
            answered(call, None)

    def _send_again(self, call: EvaluateCall[Item], answered: OnAnswer, attempt: int) -> None:
        try:
            self._connection.blobs.forget(self._reservation.device(call.serial).worker)
        except IcebusError as error:  # it was taken from the reservation meanwhile
            answered(call, error)
        else:
            self.make(call, answered, attempt)

    def _file(self, evaluation: Evaluation[Item]) -> dict[str, JsonValue]:
        bitstream = evaluation.item.bitstream
        blob = bitstream.blob
        file: dict[str, JsonValue] = {
            "id": evaluation.id,
            "name": bitstream.name,
            "annotations": dict(bitstream.annotations),
        }
        if len(blob.packed) > self._largest:
            return {**file, "sha256": blob.sha256}
        return {**file, "data": b64encode(blob.packed).decode(), "encoding": blob.encoding}


def _as_icebus_error(error: Exception) -> IcebusError:
    """What ended a call, as the outcome of what it was for."""
    if isinstance(error, IcebusError):
        return error
    log.error("a call could not be made", exc_info=error)
    return InternalError(f"a call to evaluate could not be made: {error!r}")
