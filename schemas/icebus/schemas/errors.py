"""Every error a user can meet, each with a stable code that also crosses the bus.

One hierarchy, rooted in :class:`IcebusError`. Raised anywhere, it is sent as an :class:`ErrorInfo`
and raised again, as the same class, on the other side. Messages name the remedy.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator


class ErrorInfo(BaseModel):
    """An error as it crosses the bus."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    code: str = Field(description="Stable name of the error, to be matched by programs.")
    message: str = Field(description="What happened and what to do about it, for people.")
    details: dict[str, Any] = Field(default_factory=dict, description="Facts for programs.")


class IcebusError(Exception):
    """The root of all errors of icebus.

    Attributes:
        code: stable name, the same on the wire and in every language.
        message: what happened and what to do about it.
        details: JSON-able facts for programs.
    """

    code: ClassVar[str] = "internal"
    _by_code: ClassVar[dict[str, type[IcebusError]]] = {}

    def __init__(self, message: str, /, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            if cls.code in IcebusError._by_code:
                raise TypeError(f"two errors with code {cls.code!r}")
            IcebusError._by_code[cls.code] = cls

    def __reduce__(self) -> tuple[Any, ...]:
        return (_revive, (type(self), self.message, self.details))

    def info(self) -> ErrorInfo:
        """This error as it crosses the bus."""
        return ErrorInfo(code=self.code, message=self.message, details=self.details)

    @staticmethod
    def from_info(info: ErrorInfo) -> IcebusError:
        """The error that ``info`` describes; an unknown code gives a plain :class:`RemoteError`."""
        cls = IcebusError._by_code.get(info.code)
        if cls is None:
            return RemoteError(info.message, **{**info.details, "code": info.code})
        return cls(info.message, **info.details)


def _revive(cls: type[IcebusError], message: str, details: dict[str, Any]) -> IcebusError:
    return cls(message, **details)


def _raised_again(value: object) -> IcebusError:
    if isinstance(value, IcebusError):
        return value
    return IcebusError.from_info(ErrorInfo.model_validate(value))


AnyError = Annotated[
    IcebusError,
    PlainValidator(_raised_again, json_schema_input_type=ErrorInfo),
    PlainSerializer(IcebusError.info, return_type=ErrorInfo),
]
"""A field of a message that holds an error: an exception here, an :class:`ErrorInfo` in JSON."""


class RemoteError(IcebusError):
    """The other side failed in a way this version has no class for; see ``details['code']``."""

    code = "remote"


class InternalError(IcebusError):
    """A component met something its authors did not foresee; its log has the traceback."""

    code = "internal_error"


# --- requests ---------------------------------------------------------------------------------


class InvalidRequest(IcebusError):
    """A request that is not what its schema says; ``details['problems']`` lists where."""

    code = "invalid_request"


class UnknownOperation(IcebusError):
    """Control has no such operation."""

    code = "unknown_operation"


class UnknownKind(IcebusError):
    """No worker offers that kind of state."""

    code = "unknown_kind"


class UnknownMethod(IcebusError):
    """The state has no such method."""

    code = "unknown_method"


class UnknownDevice(IcebusError):
    """No device of that serial is known here."""

    code = "unknown_device"


class UnknownReservation(IcebusError):
    """No live reservation of that id."""

    code = "unknown_reservation"


class Forbidden(IcebusError):
    """The thing exists and is somebody else's."""

    code = "forbidden"


class TooManyRequests(IcebusError):
    """More than one user may send, or have in work; ``details['retry_after']`` has seconds.

    The library waits and tries again by itself, until the deadline of what was asked.
    """

    code = "too_many_requests"


class DatabaseUnavailable(IcebusError):
    """Control's database is away, so nobody can be given anything; what is held goes on.

    ``details`` has ``cause``, ``since``, ``retry_after`` in seconds, and ``in_doubt``: whether what
    was asked may have been done all the same, because the database went while it was.
    """

    code = "database_unavailable"


class Conflict(IcebusError):
    """The request contradicts what already happened, such as one id used for two requests."""

    code = "conflict"


class DeadlineExceeded(IcebusError, TimeoutError):
    """No answer came in time."""

    code = "deadline_exceeded"


# --- connection -------------------------------------------------------------------------------


class BrokerUnavailable(IcebusError):
    """The broker can't be reached, or the connection to it ended."""

    code = "broker_unavailable"


class ClientClosed(BrokerUnavailable):
    """The client was closed before, or while, something was asked of it; a new one can ask."""

    code = "client_closed"


class NotAuthorized(IcebusError):
    """The broker refused the credentials, or its access list refused the topic."""

    code = "not_authorized"


class WrongRole(NotAuthorized):
    """The credentials are good, and of another role than the program needs.

    ``details`` has ``user``, ``role`` and ``wanted``.
    """

    code = "wrong_role"


class AlreadyRunning(Conflict):
    """Another run of the program speaks under this name.

    ``details`` has its ``host``, ``pid``, ``session`` and ``since``.
    """

    code = "already_running"


class UnknownPrincipal(IcebusError):
    """The broker knows nobody of that name."""

    code = "unknown_principal"


class MessageTooLarge(IcebusError):
    """More bytes than the broker, or that topic, takes in one message; ``details['limit']``."""

    code = "message_too_large"


class ProgramMissing(IcebusError):
    """A program icebus runs is not installed; the message has the command that installs it."""

    code = "program_missing"


class NoProfile(IcebusError):
    """No farm is named and none runs on this machine."""

    code = "no_profile"


# --- reservations -----------------------------------------------------------------------------


class NotEnoughDevices(IcebusError):
    """Fewer ready devices than asked for; ``details`` has ``wanted`` and ``available``.

    ``soon`` in it says whether the others are only just being made ready, so that they can be had
    within seconds.
    """

    code = "not_enough_devices"


class DeviceUnavailable(IcebusError):
    """A device asked for by serial exists but is not free and ready; ``details`` as above."""

    code = "device_unavailable"


class LimitExceeded(IcebusError):
    """More than this user may have; ``details`` has ``limit`` and ``wanted``."""

    code = "limit_exceeded"


class ReservationQueued(IcebusError):
    """The reservation waits in the queue, and what was asked of it needs devices."""

    code = "reservation_queued"


class ReservationEnded(IcebusError):
    """The reservation is over; ``details['reason']`` says why."""

    code = "reservation_ended"


class DeviceNotHeld(IcebusError):
    """A call to a device that the caller's reservation does not hold."""

    code = "device_not_held"


class DeviceNotServing(IcebusError):
    """The device is held but not ready for calls (being prepared, released or repaired)."""

    code = "device_not_serving"


# --- evaluations ------------------------------------------------------------------------------


class BitstreamInvalid(IcebusError):
    """Not a bitstream for the iCE40UP5K: wrong size, no preamble, or a checksum that fails."""

    code = "bitstream_invalid"


class BitstreamUnsupported(IcebusError):
    """A valid bitstream that uses what the virtual FPGA does not model."""

    code = "bitstream_unsupported"


class MeasurementUnsupported(IcebusError):
    """The board, or the firmware on it, can't measure what was asked for; another board may."""

    code = "measurement_unsupported"


class DecoderUnavailable(IcebusError):
    """A virtual board without a chip database to read bitstreams with."""

    code = "decoder_unavailable"


class BlobMissing(IcebusError):
    """A file was named by its hash but its bytes have not arrived; ``details['sha256']``."""

    code = "blob_missing"


class BlobInvalid(IcebusError):
    """A file's bytes are not what its hash says, or decompress to too much."""

    code = "blob_invalid"


class QueueFull(IcebusError):
    """The device's queue can't take that many more; ``details`` has ``capacity`` and ``depth``."""

    code = "queue_full"


class JournalUnavailable(IcebusError):
    """The worker can't write down what it accepts: its disk is full, or its journal is locked."""

    code = "journal_unavailable"


class DeviceFailed(IcebusError):
    """The device broke (``details['reason']``); its outstanding evaluations fail with it."""

    code = "device_failed"


class DeviceUnplugged(DeviceFailed):
    """The device went away from its USB port."""

    code = "device_unplugged"


class WorkerLost(DeviceFailed):
    """The worker that owns the device died or lost its connection."""

    code = "worker_lost"


class WorkerRestarted(DeviceFailed):
    """The worker was restarted with the evaluation accepted but not measured."""

    code = "worker_restarted"


class MeasurementFailed(IcebusError):
    """The device took the bitstream but gave no measurement (silence, garbage, watchdog)."""

    code = "measurement_failed"


class EvaluationWithdrawn(IcebusError):
    """The client gave the evaluation up while it waited at its device."""

    code = "evaluation_withdrawn"


class KindFailed(IcebusError):
    """The kind's own code has a mistake; the board is well. ``details`` has ``kind``."""

    code = "kind_failed"


class EvaluationsFailed(IcebusError):
    """Some evaluations ended in failures; ``failures`` on the exception lists them."""

    code = "evaluations_failed"


# --- firmware ---------------------------------------------------------------------------------


class FirmwareInvalid(IcebusError):
    """Not a UF2 image, or one for another chip."""

    code = "firmware_invalid"


class FirmwareUnknown(IcebusError):
    """No image of that firmware for that chip."""

    code = "firmware_unknown"
