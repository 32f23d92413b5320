"""The kinds that workers offer, and the check of what a reservation asks of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from icebus.schemas.components import KindInfo, WorkerKinds
from icebus.schemas.errors import InvalidRequest

PROBLEMS = 20
"""Mistakes of one request that its refusal lists."""


class Kind:
    """A kind as one worker offers it.

    Args:
        name: of the kind.
        info: what the worker published.

    Attributes:
        name: of the kind.
        firmware: what a board must run for it.
        schema: of its arguments, as a text; workers of one version have the same.

    Raises:
        InvalidRequest: its schema of arguments is not a JSON Schema.
    """

    def __init__(self, name: str, info: KindInfo) -> None:
        self.name = name
        self.firmware = info.firmware
        self.schema = json.dumps(info.args, sort_keys=True)
        try:
            Draft202012Validator.check_schema(info.args)
        except (SchemaError, RecursionError):
            raise InvalidRequest(f"the arguments of kind {name} have no valid schema") from None
        # An empty registry: what a worker publishes must not make us fetch anything.
        registry: Registry[Any] = Registry()
        self._validator = Draft202012Validator(info.args, registry=registry)

    def check(self, args: Mapping[str, Any]) -> None:
        """Refuse arguments that this worker would not take.

        Raises:
            InvalidRequest: where they are wrong and how.
        """
        try:
            # Numbers that JSON can't write would not reach the worker.
            json.dumps(args, allow_nan=False).encode()
            errors = list(self._validator.iter_errors(args))
        except (Unresolvable, re.error, RecursionError) as error:
            raise InvalidRequest(
                f"the schema that a worker gave kind {self.name} can't be followed: {error}"
            ) from None
        except ValueError as error:
            raise InvalidRequest(f"args of kind {self.name} are not JSON: {error}") from None
        if not errors:
            return
        problems = [
            {"field": each.json_path, "problem": each.message[:200]} for each in errors[:PROBLEMS]
        ]
        listing = "; ".join(f"{each['field']}: {each['problem']}" for each in problems[:5])
        raise InvalidRequest(f"args of kind {self.name}: {listing}", problems=problems)


def read(message: WorkerKinds) -> dict[str, Kind]:
    """The kinds a worker published, ready to check arguments against.

    Raises:
        InvalidRequest: one of them has no valid schema.
    """
    return {name: Kind(name, info) for name, info in message.kinds.items()}
