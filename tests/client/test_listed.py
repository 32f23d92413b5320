"""Lists of the library are lists, and tables in notebooks."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import timedelta

import pytest

from icebus.client import _listed as listed
from icebus.client._farm.survey import Survey
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.message import now
from icebus.schemas.operations.history import HistoryEntry, HistoryEvent
from icebus.schemas.operations.reservations import (
    HeldDevice,
    HoldState,
    KnownDevice,
    Queue,
    Reservation,
    ReservationState,
)

REPORT = DeviceReport(
    serial="A1", state=DeviceState.BROKEN, since=now(), session="s", reason="<b>silent</b>"
)
DEVICE = KnownDevice(worker="w1", report=REPORT, fresh=False, labels={"rack": "b"})
HELD = Reservation(
    id="r1",
    user="alice",
    kind="pulsecount",
    state=ReservationState.ACTIVE,
    devices=[HeldDevice(serial="A1", worker="w1", state=HoldState.SERVING)],
    created=now(),
    until=now() + timedelta(hours=2),
)
QUEUED = HELD.model_copy(
    update={
        "id": "r2",
        "devices": [],
        "state": ReservationState.QUEUED,
        "queue": Queue(position=3, reason="all are held", count=1),
    }
)
ENTRY = HistoryEntry(number=1, at=now(), event=HistoryEvent.DRAINED, actor="root", worker="w1")

LISTS = [
    (listed.devices, DEVICE, ["1 device", "A1", "rack=b", "&lt;b&gt;silent", "does not answer"]),
    (listed.reservations, HELD, ["1 reservation", "r1", "alice", " left"]),
    (listed.reservations, QUEUED, ["waits at position 3", "all are held"]),
    (listed.history, ENTRY, ["1 event", "drained", "root", "w1"]),
    (listed.serials, "A1", ["1 device", "A1"]),
]


@pytest.mark.parametrize(("make", "item", "shown"), LISTS)
def test_given_a_list_when_a_notebook_shows_it_then_as_a_table_that_is_escaped(
    make: type[listed.Listed[object]], item: object, shown: list[str]
) -> None:
    html = make([item])._repr_html_()  # type: ignore[call-arg]
    assert [each for each in shown if each not in html] == []
    assert "<b>" not in html
    assert "<table>" in make([])._repr_html_()  # type: ignore[call-arg]


@pytest.mark.parametrize(("make", "item", "shown"), LISTS)
def test_given_such_a_list_when_used_as_one_then_it_is_one(
    make: type[listed.Listed[object]], item: object, shown: list[str]
) -> None:
    made = make([item])  # type: ignore[call-arg]
    assert made == [item]
    assert repr(made) == repr([item])
    for copied in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert copied == made
        assert copied._repr_html_() == made._repr_html_()
    assert isinstance(made[:1], list)
    if isinstance(item, str):
        assert json.dumps(made) == json.dumps([item])


def test_given_a_survey_when_a_notebook_shows_it_then_its_workers_are_listed() -> None:
    survey = Survey(
        workers={"w1": WorkerState(state=WorkerPhase.READY, session="s", draining="<new> kernel")},
        devices={("w1", "A1"): REPORT},
    )
    html = survey._repr_html_()
    assert "1 worker, 1 device, 0 reservations" in html
    assert "1 broken" in html
    assert "&lt;new&gt; kernel" in html
