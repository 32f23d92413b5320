"""The AsyncAPI 3.0 document of the bus, made from the topic contract and the models.

``python -m icebus.schemas.documents.asyncapi > schemas/asyncapi.yaml``; JSON, which YAML includes.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from icebus.schemas import kinds, measuring
from icebus.schemas.calls import CallResults, RawEvent
from icebus.schemas.files import File
from icebus.schemas.ids import BROKER, CONTROL, ID_PATTERN
from icebus.schemas.operations import accounts, administration, reservations
from icebus.schemas.topics import DEFAULT_ROOT, EVENT, SELF, TOPICS, Grant, Role, Topic

Json = dict[str, Any]

_SCHEMA = "#/components/schemas/{model}"


def document() -> Json:
    """The whole document."""
    models = sorted(_models(), key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template=_SCHEMA
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "icebus",
            "version": DEFAULT_ROOT.rpartition("/v")[2],
            "description": "Every topic that crosses the broker of a farm of FPGA boards. Topics "
            f"are below a root, `{DEFAULT_ROOT}` unless configured. Who may write and read them is "
            "enforced by the broker's access list, which is made from the same table.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "farm": {
                "host": "127.0.0.1:1883",
                "protocol": "mqtt",
                "protocolVersion": "5",
                "description": "`icebus profile` prints where a farm's broker really is.",
                "security": [{"$ref": "#/components/securitySchemes/password"}],
            }
        },
        "channels": {name: _channel(topic) for name, topic in TOPICS.items()},
        "operations": dict(_operations()),
        "components": {
            "securitySchemes": {"password": {"type": "userPassword"}},
            "messages": {model.__name__: _message(model) for model in models}
            | {"Bytes": {"contentType": "application/octet-stream", "payload": {"type": "string"}}},
            "schemas": schemas["$defs"],
        },
    }


def kind_modules() -> list[ModuleType]:
    """The modules of all kinds, each with ``KIND``, ``EVENTS`` and ``ANSWERS``."""
    return [
        importlib.import_module(f"{kinds.__name__}.{found.name}")
        for found in pkgutil.iter_modules(kinds.__path__)
    ]


def event_models() -> dict[str, type[BaseModel]]:
    """The ``data`` of every known event, by the last level of its topic."""
    events: dict[str, type[BaseModel]] = dict(reservations.EVENTS)
    for module in kind_modules():
        events |= module.EVENTS
    return events


def _models() -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = {CallResults, File}
    found.update(topic.model for topic in TOPICS.values() if topic.model is not None)
    for operations in (
        reservations.OPERATIONS,
        administration.OPERATIONS,
        accounts.OPERATIONS,
    ):
        for args, answer in operations.values():
            found.update((args, answer))
    found.update(event_models().values())
    for module in (measuring, *kind_modules()):
        found.update(
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, BaseModel)
            and value.__module__ == module.__name__
        )
    return found


def _message(model: type[BaseModel]) -> Json:
    summary = (model.__doc__ or model.__name__).strip().splitlines()[0].replace("``", "`")
    return {"summary": summary, "payload": {"$ref": _SCHEMA.format(model=model.__name__)}}


def _channel(topic: Topic) -> Json:
    name = "Bytes" if topic.model is None else topic.model.__name__
    channel: Json = {
        "address": f"{DEFAULT_ROOT}/{topic.template}",
        "description": topic.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"mqtt": {"bindingVersion": "0.2.0"}},
    }
    if topic.levels:
        channel["parameters"] = {
            level: {"description": f"Matches {ID_PATTERN}."} for level in topic.levels
        }
    channel["x-expiry"] = str(topic.expiry)
    channel["x-limit"] = topic.limit
    if topic is EVENT:
        channel["x-data"] = {
            event: {"$ref": _SCHEMA.format(model=model.__name__)}
            for event, model in event_models().items()
        }
        channel["description"] += f" `data` of {RawEvent.__name__} is what `x-data` says."
    return channel


def _operations() -> Iterator[tuple[str, Json]]:
    """AsyncAPI has no roles, so each is an application of its own here: what it sends and gets."""
    for name, topic in TOPICS.items():
        for action, grants in (("send", topic.writers), ("receive", topic.readers)):
            for role, grant in grants.items():
                yield (
                    f"{role}.{action}.{name}",
                    {
                        "action": action,
                        "channel": {"$ref": f"#/channels/{name}"},
                        "summary": whose(role, grant),
                        "bindings": {
                            "mqtt": {
                                "qos": topic.qos,
                                "retain": topic.retained,
                                "bindingVersion": "0.2.0",
                            }
                        },
                    },
                )


def whose(role: Role, grant: Grant) -> str:
    """Which topics of a family a role has, in words."""
    own = [level for level, value in grant.items() if value == SELF]
    # A level fixed to a word says no more than the role does, but for the names of senders.
    fixed = [value for value in grant.values() if value in {CONTROL, BROKER}]
    if own:
        return f"{role.value}, {' and '.join(own)} being its own id"
    if fixed:
        return f"{role.value}, as `{fixed[0]}`"
    return f"{role.value}, any"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")
