"""Methods that clients may call on a state: the signature is the contract."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError, create_model

from icebus.schemas.components import MethodInfo
from icebus.schemas.errors import BlobMissing
from icebus.schemas.files import FindBlob, Unpacking, missing_blobs
from icebus.schemas.message import Args, invalid

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__icebus_method__"


@dataclass(frozen=True)
class ModelOfKind:
    """Annotates a parameter whose model each kind has of its own: a class in its class.

    Attributes:
        name: of the model, as an attribute of the kind's state.
    """

    name: str


@dataclass(frozen=True)
class Method:
    """A method as clients see it.

    Attributes:
        name: on the bus.
        args: model of its arguments, made from the signature.
        returns: of its return value.
    """

    name: str
    description: str
    function: Callable[..., Any]
    args: type[BaseModel]
    returns: TypeAdapter[Any]
    parameters: dict[str, str] = field(default_factory=dict)
    models: dict[str, type[BaseModel]] = field(default_factory=dict)

    @classmethod
    def of(cls, function: Callable[..., Any], owner: type | None = None) -> Method:
        """Read the contract off a signature, for the state ``owner``.

        Raises:
            TypeError: a parameter or the return value has no type, or a parameter no name.
        """
        name = function.__name__
        hints = typing.get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        if "return" not in hints:
            raise TypeError(f"method {name} has no return type")
        fields: dict[str, Any] = {}
        parameters: dict[str, str] = {}
        models: dict[str, type[BaseModel]] = {}
        for parameter in list(signature.parameters.values())[1:]:
            if parameter.name not in hints:
                raise TypeError(f"method {name}: parameter {parameter.name} has no type")
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"method {name}: {parameter.name} can't be passed by its name")
            default = ... if parameter.default is parameter.empty else parameter.default
            hint = hints[parameter.name]
            for mark in getattr(hint, "__metadata__", ()):
                if isinstance(mark, ModelOfKind):
                    hint = models[parameter.name] = getattr(owner, mark.name)
                    default = {}
            # The model's own attributes must not clash with names such as "validate".
            parameters[f"arg_{parameter.name}"] = parameter.name
            fields[f"arg_{parameter.name}"] = (
                hint,
                Field(default, alias=parameter.name, validate_default=parameter.name in models),
            )
        return cls(
            name=name,
            description=inspect.getdoc(function) or "",
            function=function,
            args=create_model(f"{name}_args", __base__=Args, **fields),
            returns=TypeAdapter(hints["return"]),
            parameters=parameters,
            models=models,
        )

    def parse(
        self, args: dict[str, Any], find_blob: FindBlob, unpacking: Unpacking | None = None
    ) -> dict[str, Any]:
        """The arguments as the method takes them, files with their bytes.

        Args:
            args: as they came.
            find_blob: finds files that were sent before.
            unpacking: bounds the bytes of all files together.

        Raises:
            InvalidRequest: they are not what the signature says.
            BlobMissing: the bytes of a file have not arrived.
            BlobInvalid: they are not what its hash says.
            QueueFull: the files have too many bytes.
        """
        context = {"find_blob": find_blob, "unpacking": unpacking}
        try:
            parsed = self.args.model_validate(args, context=context)
        except ValidationError as error:
            raise invalid(error, f"args of {self.name}") from None
        missing = missing_blobs(parsed)
        if missing:
            raise BlobMissing(
                f"the bytes of {len(missing)} files have not arrived; publish them on the "
                "worker's blob topic first",
                sha256=missing,
            )
        return {name: getattr(parsed, key) for key, name in self.parameters.items()}

    def call(self, state: object, arguments: dict[str, Any]) -> JsonValue:
        """Call it on ``state``; the result as JSON."""
        result: JsonValue = self.returns.dump_python(self.function(state, **arguments), mode="json")
        return result

    def info(self) -> MethodInfo:
        """The method as workers publish it."""
        args = self.args.model_json_schema(by_alias=True)
        for name, model in self.models.items():  # where it is looked for, not behind a reference
            schema = model.model_json_schema()
            args["$defs"].pop(model.__name__, None)
            args["$defs"].update(schema.pop("$defs", {}))
            args["properties"][name] = schema
        return MethodInfo(
            description=self.description,
            args=args,
            returns=self.returns.json_schema(mode="serialization"),
        )


def method(function: F) -> F:
    """Offer a method of a state to clients; the function is returned unchanged."""
    setattr(function, _MARK, True)
    return function


def methods_in(members: dict[str, Any], owner: type) -> dict[str, Method]:
    """The methods among the members of a class."""
    return {
        name: Method.of(value, owner)
        for name, value in members.items()
        if getattr(value, _MARK, False)
    }
