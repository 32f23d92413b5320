"""What is said to a board and what that means: bytes in, effects out, no port and no clock.

One request at a time is without its reply, so that whatever goes wrong on the line has befallen
that one. Measurements that were accepted wait on the board, which makes them in order: a result of
a later one says that an earlier one's was lost. What was lost is sent again under a new sequence,
and a result whose sequence is not known is nobody's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from icebus.schemas.boards.framed import (
    KEEP_ALIVE_SECONDS,
    NO_SEQUENCE,
    SILENCE_SECONDS,
    Frame,
    FrameParser,
    FrameType,
)
from icebus.schemas.boards.framed_replies import (
    BoardStatus,
    Outcome,
    Phase,
    Reason,
    Rejected,
    Result,
    Samples,
)
from icebus.schemas.boards.framed_requests import Measure, TakeSamples
from icebus.schemas.errors import (
    BitstreamUnsupported,
    DecoderUnavailable,
    IcebusError,
    MeasurementFailed,
)
from icebus.worker.firmware._meter import Measured
from icebus.worker.firmware.framed._effects import Began, Effect, Ended, FramedReport, Send, Silent
from icebus.worker.firmware.framed._measuring import ATTEMPTS, Measuring

MOST_AT_ONCE = 4
"""Measurements that are given to a board: one is made, one is ready behind it, and two more bridge
the time that results take to come and measurements to go. All are lost with a board."""

QUEUE_BYTES = 120 << 10
"""Bytes of encoded bitstreams that a board keeps, by the contract's banner."""

REPLY_DEADLINE = 5.0
"""Seconds from a request's first byte to its reply: 0.1 for the longest upload over USB at full
speed, milliseconds for the reply."""

UNANSWERED = 2
"""Requests in a row without a reply that make a board silent."""

RESULT_DEADLINE = 20.0
"""Seconds for a measurement beyond its window, while the board answers. Configuring takes 0.04; a
virtual board may have to simulate for longer."""

ASK_AFTER = KEEP_ALIVE_SECONDS * 0.4
"""Seconds in which nothing was sent after which a board that measures is asked for its status, so
that it does not take us for dead: one such request may be lost."""

MOST_UNASKED = 256 << 10
"""Bytes in a row that nobody asked for after which a board is out of its mind: reading them takes
the time of the other boards. What a predecessor left behind is less than 40 KiB."""

MOST_ACCEPTED_UNASKED = 8
"""Measurements in a row that a board accepts without having been asked: each is aborted, and those
that were asked for wait meanwhile. Damage on the line causes one now and then."""

_REPLIES = {
    FrameType.MEASURE: FrameType.ACCEPTED,
    FrameType.STATUS: FrameType.BOARD_STATUS,
    FrameType.ABORT: FrameType.ABORTED,
}
_SEQUENCES = 0xFFFFFFFF
_HALF_OF_UPTIMES = 1 << 31
_TOLD = "told"


@dataclass(slots=True)
class _Request:
    type: FrameType
    sequence: int
    sent_at: float
    measuring: Measuring | None = None


class Exchange:
    """One board's measurements. Each that is given ends once, unless all are abandoned.

    Each method takes the time in seconds, of any clock that does not go back.

    Args:
        sequence: the first to use; one that others have hardly used lately.
    """

    def __init__(self, sequence: int) -> None:
        self._sequence = sequence % _SEQUENCES
        self._parser = FrameParser()
        self._heard_at = 0.0
        self._sent_at = 0.0
        self._unsent: deque[Measuring] = deque()
        self._request: _Request | None = None
        self._accepted: dict[int, Measuring] = {}
        self._to_ask: FrameType | None = None
        self._full = False
        self._unanswered = 0
        self._unasked_bytes = 0
        self._accepted_unasked = 0
        self._idle_told = 0
        self._uptime_ms = 0
        self._silent = ""
        self._effects: list[Effect] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and every request has had its reply."""
        return self._request is None and not self._unsent and not self._accepted

    @property
    def wants_more(self) -> bool:
        """Whether another measurement would fit on the board."""
        request = self._request
        pending = request.measuring if request is not None else None
        count = len(self._unsent) + len(self._accepted) + (pending is not None)
        if not 2 <= count < MOST_AT_ONCE:
            return count < 2
        given = [*self._unsent, *self._accepted.values(), *([pending] if pending else ())]
        return sum(len(each.payload) for each in given) < QUEUE_BYTES

    @property
    def due(self) -> float | None:
        """When :meth:`tick` is to be called at the latest; None while nothing can be late."""
        dues = []
        if self._request is not None:
            dues.append(self._request.sent_at + REPLY_DEADLINE)
        elif self._accepted:
            dues.append(self._sent_at + ASK_AFTER)
        if self._accepted:
            dues.append(self._result_due)
        if self._parser.inside_frame:
            dues.append(self._heard_at + SILENCE_SECONDS)
        return min(dues, default=None)

    def measure(self, now: float, key: str, payload: bytes) -> list[Effect]:
        """Have the board make a measurement, when it has room.

        Args:
            now: the time.
            key: names the measurement.
            payload: of its ``MEASURE``.

        Raises:
            ValueError: the payload is not one.
        """
        measurement = Measure.parse(payload).measurement
        self._unsent.append(Measuring(key, payload, measurement))
        return self._done(now)

    def ask_status(self, now: float) -> list[Effect]:
        """Ask the board for its status: it then is not idle until that has come."""
        self._to_ask = self._to_ask or FrameType.STATUS
        return self._done(now)

    def receive(self, now: float, data: bytes) -> list[Effect]:
        """Take in what the board says."""
        self._heard_at = now
        self._unasked_bytes += len(data)
        for frame in self._parser.feed(data):
            self._take(now, frame)
        if self._unasked_bytes > MOST_UNASKED:
            self._fall_silent(f"said {self._unasked_bytes >> 10} KiB that nobody asked for")
        return self._done(now)

    def tick(self, now: float) -> list[Effect]:
        """See what is late."""
        if self._parser.inside_frame and now >= self._heard_at + SILENCE_SECONDS:
            for frame in self._parser.drop_begun_frame():
                self._take(now, frame)
        if self._request is not None and now >= self._request.sent_at + REPLY_DEADLINE:
            self._on_no_reply(self._request)
        if self._accepted:
            if now >= self._result_due:
                self._end(self._pop_first(), MeasurementFailed("the board gave no result in time"))
                self._fall_silent("gave no result in time")
            elif now >= self._sent_at + ASK_AFTER and self._request is None:
                self._to_ask = self._to_ask or FrameType.STATUS
        return self._done(now)

    def abandon(self) -> bytes:
        """Forget everything; gives what to send so that the board does the same, if it need."""
        busy = not self.idle
        self._unsent.clear()
        self._accepted.clear()
        self._request = self._to_ask = None
        self._silent = "abandoned"
        return Frame(FrameType.ABORT, self._next_sequence()).pack() if busy else b""

    # --- what the board says --------------------------------------------------------------------

    def _take(self, now: float, frame: Frame) -> None:
        try:
            match frame.type:
                case FrameType.RESULT:
                    self._on_result(now, frame.sequence, Result.parse(frame.payload))
                case FrameType.SAMPLES:
                    self._on_samples(frame.sequence, Samples.parse(frame.payload))
                case FrameType.REJECTED:
                    self._on_rejected(frame.sequence, Rejected.parse(frame.payload))
                case FrameType.ACCEPTED | FrameType.BOARD_STATUS | FrameType.ABORTED:
                    self._on_status(now, frame, BoardStatus.parse(frame.payload))
                case FrameType.BANNER if frame.sequence == NO_SEQUENCE:
                    self._fall_silent("was restarted")
                case _:
                    pass  # a reply to somebody before us
        except ValueError as error:
            self._fall_silent(f"speaks another version of the protocol: {error}")

    def _on_status(self, now: float, frame: Frame, status: BoardStatus) -> None:
        if 0 < self._uptime_ms - status.uptime_ms < _HALF_OF_UPTIMES:
            self._fall_silent("was restarted")
            return
        self._uptime_ms = status.uptime_ms
        request = self._replied(frame.sequence)
        if request is not None and frame.type != _REPLIES.get(request.type):
            self._fall_silent(f"replied to {request.type.name} with something else")
            return
        if frame.type == FrameType.ACCEPTED:
            if request is not None and request.measuring is not None:
                self._on_accepted(now, request.sequence, request.measuring)
            elif frame.sequence not in self._accepted:
                self._on_accepted_unasked()
        elif request is None:
            pass
        elif frame.type == FrameType.ABORTED:
            self._lose(list(self._accepted), "the board has forgotten it")
        elif status.phase is Phase.IDLE and not status.waiting and self._accepted:
            # A result may have been on its way still when the board said so for the first time.
            self._idle_told += 1
            if self._idle_told > 1:
                self._lose(list(self._accepted), "its result was lost on the way")

    def _on_accepted(self, now: float, sequence: int, measuring: Measuring) -> None:
        measuring.accepted_at = now
        self._accepted[sequence] = measuring
        self._idle_told = 0
        if len(self._accepted) == 1:
            self._begin_first(now)

    def _on_accepted_unasked(self) -> None:
        """It measures what nobody waits for."""
        self._to_ask = FrameType.ABORT
        self._accepted_unasked += 1
        if self._accepted_unasked > MOST_ACCEPTED_UNASKED:
            self._fall_silent("accepts what nobody asked for")

    def _on_rejected(self, sequence: int, rejected: Rejected) -> None:
        request = self._request
        if request is None or sequence not in (request.sequence, NO_SEQUENCE):
            return
        if sequence == NO_SEQUENCE and rejected.reason is not Reason.HEADER_DAMAGED:
            return
        measuring = request.measuring
        if measuring is not None and rejected.reason is Reason.SEQUENCE_IN_USE:
            # Its reply was lost, or came for what was sent before.
            self._request = None
            self._on_accepted(self._heard_at, request.sequence, measuring)
            return
        self._request = None
        if measuring is None:
            self._to_ask = self._to_ask or request.type
            self._count_unanswered(request)
            return
        self._unanswered = 0
        match rejected.reason:
            case Reason.QUEUE_FULL if self._accepted:
                self._full = True
                measuring.attempts -= 1
                self._unsent.appendleft(measuring)
            case Reason.INVALID_ARGUMENT:
                self._end(measuring, measuring.not_able(rejected.detail))
            case Reason.TOO_LONG | Reason.UNKNOWN_TYPE:
                self._end(measuring, measuring.refused(rejected))
            case reason:
                self._again(measuring, f"the upload was damaged ({reason.name})")

    def _on_samples(self, sequence: int, samples: Samples) -> None:
        measuring = self._accepted.get(sequence)
        if measuring is None or not isinstance(measuring.measurement, TakeSamples):
            return
        self._unasked_bytes = 0
        end = samples.first + len(samples.values)
        if samples.first == len(measuring.samples) and end <= measuring.measurement.count:
            measuring.samples += samples.values

    def _on_result(self, now: float, sequence: int, result: Result) -> None:
        request = self._request
        if request is not None and request.measuring is not None and request.sequence == sequence:
            self._request = None  # its reply was lost
            self._on_accepted(now, sequence, request.measuring)
        if sequence not in self._accepted:
            return
        order = list(self._accepted)
        missing = order[: order.index(sequence)]
        measuring = self._accepted.pop(sequence)
        self._idle_told = self._unasked_bytes = self._accepted_unasked = 0
        self._full = False
        match result.outcome:
            case Outcome.MEASURED | Outcome.NOT_CONFIGURED:
                self._on_measured(now, measuring, result)
            case Outcome.UNSUPPORTED:
                self._end(measuring, BitstreamUnsupported(result.note))
            case Outcome.UNAVAILABLE:
                self._end(measuring, DecoderUnavailable(result.note))
            case Outcome.ABORTED:
                self._again(measuring, "the board has given it up")
            case Outcome.BITSTREAM_DAMAGED:
                self._again(measuring, "the bitstream was damaged on the board")
        self._lose(missing, "its result was lost on the way")
        if self._accepted:
            self._begin_first(now)

    def _on_measured(self, now: float, measuring: Measuring, result: Result) -> None:
        how = measuring.measured(result, now)
        if how is None:
            self._again(measuring, "samples were lost on the way")
        else:
            self._end(measuring, how)

    # --- what we do -----------------------------------------------------------------------------

    def _done(self, now: float) -> list[Effect]:
        """All effects so far, with the next request if it can be made; none once it is silent."""
        if self._silent == _TOLD:
            # Whoever was told has given up all that was under way; more may have come meanwhile.
            self._effects.clear()
            return []
        if not self._silent and self._request is None:
            self._make_request(now)
        effects, self._effects = self._effects, []
        if self._silent:
            effects.append(Silent(self._silent))
            self._silent = _TOLD
        return effects

    def _make_request(self, now: float) -> None:
        measuring: Measuring | None = None
        payload = b""
        kind, self._to_ask = self._to_ask, None
        if kind is None:
            if not self._unsent or self._full:
                return
            kind, measuring = FrameType.MEASURE, self._unsent.popleft()
            payload = measuring.payload
            measuring.again(now)
        self._request = _Request(kind, self._next_sequence(), now, measuring)
        self._sent_at = now
        self._effects.append(Send(Frame(kind, self._request.sequence, payload).pack()))

    def _next_sequence(self) -> int:
        self._sequence = self._sequence % _SEQUENCES + 1
        return self._sequence

    def _replied(self, sequence: int) -> _Request | None:
        """The request that was waiting for that reply."""
        request = self._request
        if request is None or request.sequence != sequence:
            return None
        self._request, self._unanswered, self._unasked_bytes = None, 0, 0
        return request

    def _on_no_reply(self, request: _Request) -> None:
        self._request = None
        if request.measuring is not None:
            # It may have been accepted, which nobody is to wait for.
            self._to_ask = FrameType.ABORT
            self._again(request.measuring, "the board did not reply")
        else:
            self._to_ask = request.type
        self._count_unanswered(request)

    def _count_unanswered(self, request: _Request) -> None:
        self._unanswered += 1
        if self._unanswered >= UNANSWERED:
            self._fall_silent(f"did not reply to {request.type.name}")

    def _begin_first(self, now: float) -> None:
        first = next(iter(self._accepted.values()))
        if not first.begun_at:
            first.begun_at = now
            self._effects.append(Began(first.key))

    @property
    def _result_due(self) -> float:
        first = next(iter(self._accepted.values()))
        return first.begun_at + first.seconds + RESULT_DEADLINE

    def _pop_first(self) -> Measuring:
        return self._accepted.pop(next(iter(self._accepted)))

    def _lose(self, sequences: list[int], how: str) -> None:
        for sequence in reversed(sequences):
            self._again(self._accepted.pop(sequence), how)

    def _again(self, measuring: Measuring, why: str) -> None:
        """Send it again before the others, unless that was done often enough."""
        if measuring.attempts < ATTEMPTS:
            measuring.begun_at = 0.0
            self._unsent.appendleft(measuring)
        else:
            self._end(measuring, measuring.given_up(why))

    def _end(self, measuring: Measuring, how: Measured[FramedReport] | IcebusError) -> None:
        self._effects.append(Ended(measuring.key, how))

    def _fall_silent(self, how: str) -> None:
        self._silent = self._silent or how
