"""The generated documents are fresh, and what they claim to be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from icebus.control.operations.requests.remembered_requests import Operations
from icebus.control.operations.requests.table import ADMINISTRATORS, USERS
from icebus.schemas.documents.asyncapi import document, event_models
from icebus.schemas.documents.topics_page import renew
from icebus.schemas.kinds import pulsecount
from icebus.schemas.operations import administration, reservations
from icebus.schemas.topics import TOPICS
from icebus.worker.states import installed_kinds

ROOT = Path(__file__).parents[2]
ASYNCAPI = ROOT / "schemas" / "asyncapi.yaml"
REFERENCE = ROOT / "docs" / "topics.md"


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ASYNCAPI.read_text())
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_given_the_contract_then_the_committed_asyncapi_document_is_its(
    asyncapi: dict[str, Any],
) -> None:
    fresh = json.loads(json.dumps(document()))
    assert asyncapi == fresh, "python -m icebus.schemas.documents.asyncapi > schemas/asyncapi.yaml"


def test_given_the_contract_then_the_committed_reference_is_its() -> None:
    text = REFERENCE.read_text()
    assert text == renew(text), "python -m icebus.schemas.documents.topics_page docs/topics.md"
    assert text.count("<!-- generated:") == text.count("<!-- end -->") == 5


def test_given_the_asyncapi_document_then_every_reference_leads_somewhere(
    asyncapi: dict[str, Any],
) -> None:
    found = set(references(asyncapi))
    assert len(found) > 40
    for reference in found:
        node: Any = asyncapi
        assert reference.startswith("#/")
        for part in reference[2:].split("/"):
            node = node[part]


def test_given_the_asyncapi_document_then_it_has_the_shape_of_version_3(
    asyncapi: dict[str, Any],
) -> None:
    assert asyncapi["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(asyncapi["info"])
    for channel in asyncapi["channels"].values():
        levels = re.findall(r"\{(\w+)\}", channel["address"])
        assert set(channel.get("parameters", {})) == set(levels)
        assert channel["messages"]
    for operation in asyncapi["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].startswith("#/channels/")
    for name in (*asyncapi["operations"], *asyncapi["components"]["schemas"]):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)


def test_given_the_asyncapi_document_then_every_topic_and_every_grant_is_in_it(
    asyncapi: dict[str, Any],
) -> None:
    assert set(asyncapi["channels"]) == set(TOPICS)
    granted = sum(len(topic.writers) + len(topic.readers) for topic in TOPICS.values())
    assert len(asyncapi["operations"]) == granted


@pytest.mark.parametrize(
    ("documented", "carried_out"),
    [
        (reservations.OPERATIONS, USERS),
        (administration.OPERATIONS, ADMINISTRATORS),
    ],
)
def test_given_control_then_its_operations_are_the_documented(
    documented: dict[str, tuple[type, type]], carried_out: Operations
) -> None:
    assert {name: args for name, (args, _) in documented.items()} == {
        name: operation.args for name, operation in carried_out.items()
    }


def test_given_the_pulsecount_state_then_its_events_and_methods_are_the_documented() -> None:
    kind = installed_kinds()[pulsecount.KIND]
    assert set(pulsecount.EVENTS) == set(kind.events)
    assert set(pulsecount.ANSWERS) == set(kind.methods)
    assert set(event_models()) == set(pulsecount.EVENTS) | set(reservations.EVENTS)
