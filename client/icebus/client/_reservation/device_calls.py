"""Calling a method on devices that may belong to several workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from icebus.bus import Answer
from icebus.client._connection.connection import Connection, check_id, serials_of
from icebus.client._json_values import json_object
from icebus.client._reservation import document as documents
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BlobMissing, DeviceNotHeld, ErrorInfo, InvalidRequest
from icebus.schemas.files import Blob
from icebus.schemas.ids import meant


def call_devices(
    connection: Connection,
    reservation: Reservation,
    serials: Sequence[str] | None,
    method: str,
    args: Mapping[str, Any] | None,
    files: Sequence[Blob],
    deadline: Deadline,
) -> CallResults:
    """One call to each worker that owns some of the devices, and their answers together."""
    check_id(method, "method")
    checked = json_object(args, "args")
    groups = by_worker(reservation, serials)

    def send(worker: str) -> Answer[CallResults]:
        connection.blobs.send(worker, files)
        call = Call(reservation=reservation.id, serials=groups[worker], args=checked)
        return connection.call(worker, method, call, deadline)

    answers = {worker: send(worker) for worker in groups}
    results: dict[str, JsonValue] = {}
    errors: dict[str, ErrorInfo] = {}
    for worker, answer in answers.items():
        try:
            found = answer.wait()
        except BlobMissing:
            connection.blobs.forget(worker)
            found = send(worker).wait()
        results.update(found.results)
        errors.update(found.errors)
    return CallResults(results=results, errors=errors)


def by_worker(reservation: Reservation, serials: Sequence[str] | None) -> dict[str, list[str]]:
    """The devices of each worker.

    Raises:
        DeviceNotHeld: the reservation does not hold one of them.
    """
    held = {device.serial: device.worker for device in documents.held(reservation.document)}
    groups: dict[str, list[str]] = {}
    for serial in held if serials is None else meant(serials_of(serials) or (), held):
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
