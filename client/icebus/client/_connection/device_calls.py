"""Calling a method on devices that may belong to several workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from pydantic import JsonValue

from icebus.bus import wait
from icebus.client._connection.connection import Link, check_id, read_answer
from icebus.client._reservation import document as holding
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BlobMissing, DeviceNotHeld, ErrorInfo, InvalidRequest
from icebus.schemas.files import Blob


def call_devices(
    link: Link,
    reservation: Reservation,
    serials: Sequence[str] | None,
    method: str,
    args: Mapping[str, Any],
    files: Sequence[Blob],
    deadline: Deadline,
) -> CallResults:
    """One call to each worker that owns some of the devices, and their answers together."""
    check_id(method, "method")
    groups = by_worker(reservation, serials)

    def send(worker: str, theirs: list[str]) -> Future[JsonValue]:
        link.blobs.send(worker, files)
        call = Call(reservation=reservation.id, serials=theirs, args=dict(args))
        return link.call(worker, method, call, deadline)

    asked = {worker: send(worker, theirs) for worker, theirs in groups.items()}
    results: dict[str, JsonValue] = {}
    errors: dict[str, ErrorInfo] = {}
    for worker, future in asked.items():
        try:
            answer = wait(future, deadline, worker)
        except BlobMissing:
            link.blobs.forget(worker)
            answer = wait(send(worker, groups[worker]), deadline, worker)
        told = read_answer(answer, CallResults)
        results.update(told.results)
        errors.update(told.errors)
    return CallResults(results=results, errors=errors)


def by_worker(reservation: Reservation, serials: Sequence[str] | None) -> dict[str, list[str]]:
    """The devices of each worker.

    Raises:
        DeviceNotHeld: the reservation does not hold one of them.
    """
    held = {device.serial: device.worker for device in holding.held(reservation.document)}
    groups: dict[str, list[str]] = {}
    for serial in dict.fromkeys(held if serials is None else serials):
        if serial not in held:
            raise DeviceNotHeld(
                f"reservation {reservation.id} does not hold device {serial!r}; "
                f"it holds {', '.join(held)}",
                serial=serial,
            )
        groups.setdefault(held[serial], []).append(serial)
    if not groups:
        raise InvalidRequest("no device is named; leave serials out for all of the reservation")
    return groups
