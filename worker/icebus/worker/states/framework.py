"""The framework of states: hooks, methods that clients may call, events that clients receive.

A state is event based: its hooks run on its device's loop, one at a time, so it needs no lock and
must not block. A method's signature is its contract: pydantic validates what a caller sends, and
the schemas that clients and docs use are derived from it.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from pydantic import BaseModel, Field, JsonValue, TypeAdapter, ValidationError, create_model

from icebus.schemas.components import EventInfo, KindInfo, MethodInfo
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import BlobMissing, IcebusError, InvalidRequest
from icebus.schemas.files import BlobSource, missing_blobs
from icebus.schemas.ids import is_id
from icebus.schemas.message import Args, Message, invalid

if TYPE_CHECKING:
    from icebus.worker.device import Device
    from icebus.worker.hardware.board import Board
    from icebus.worker.hardware.port import Port
    from icebus.worker.loop import Callback, Timer

D = TypeVar("D", bound=Message)
S = TypeVar("S", bound="type[Reservable]")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Hold:
    """The reservation a device serves."""

    reservation: str
    user: str


class State:
    """What a device does now. Exactly one state of a device is alive at a time.

    Attributes:
        reported: the name under which the bus knows it.
        reason: why, where the name alone does not say.
        device: whose state this is; set before :meth:`on_enter`.
    """

    reported: DeviceState
    reason: str = ""
    device: Device

    def __init__(self) -> None:
        self._timers: list[Timer] = []
        self._left = False

    def on_enter(self) -> None:
        """The state begins. :meth:`on_add` follows if the board's port is open."""

    def on_add(self, port: Port) -> None:
        """The board's serial port is there."""

    def on_data(self, data: bytes) -> None:
        """The board has said something."""

    def on_remove(self) -> None:
        """The board's serial port is gone."""
        self.device.lost("the board went away")

    def on_bootloader(self, board: Board) -> None:
        """The board has come up in its bootloader; unless asked for, something is wrong."""
        self.device.fail("the board went to its bootloader")

    def on_desired(self) -> None:
        """Control wants something else; a state that is busy is asked again when it is done."""

    def on_exit(self, why: IcebusError) -> None:
        """The state ends. ``why`` is what work still outstanding ends with."""

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Run ``callback`` in ``seconds``, if the state is alive by then."""
        timer = self.device.loop.call_later(seconds, lambda: self.device.run(self, callback))
        if self._left:  # a hook that goes on after it has ended its own state
            timer.cancel()
        self._timers = [*(each for each in self._timers if each.pending), timer]
        return timer

    def leave(self, why: IcebusError) -> None:
        """End the state: for its device."""
        self._left = True
        for timer in self._timers:
            timer.cancel()
        self.on_exit(why)


class Reservable(State):
    """A state that a client reserves devices for.

    Attributes:
        kind: its name on the bus.
        firmware: what a board must run for it.
        Args: what a reservation may ask for.
        hold: who holds the device.
        args: what the reservation asked for.
    """

    reported = DeviceState.SERVING
    kind: ClassVar[str]
    firmware: ClassVar[str]
    methods: ClassVar[dict[str, Method]]
    events: ClassVar[dict[str, Event[Any]]]

    class Args(Args):
        """Nothing, unless a kind says otherwise."""

    def __init__(self, hold: Hold, args: BaseModel) -> None:
        super().__init__()
        self.hold = hold
        self.args = args

    def on_desired(self) -> None:
        """End when somebody else is to hold the device."""
        self.device.reconcile()

    @property
    def idle(self) -> bool:
        """Whether the firmware is known to wait for work, so that the next holder needs no test."""
        return False

    @property
    def load(self) -> int:
        """How many pieces of work wait or are under way."""
        return 0

    @classmethod
    def info(cls) -> KindInfo:
        """What clients are told of this kind."""
        return KindInfo(
            description=inspect.getdoc(cls) or "",
            firmware=cls.firmware,
            args=cls.Args.model_json_schema(),
            methods={name: method.info() for name, method in cls.methods.items()},
            events={name: event.info() for name, event in cls.events.items()},
        )


class Event(Generic[D]):
    """Declares an event of a state: ``results = Event(Result)``, then ``self.results(result)``.

    Args:
        data: the model of what it carries.
        description: one line for the reference.
    """

    def __init__(self, data: type[D], description: str = "") -> None:
        self.data = data
        self.description = description
        self.name = ""

    def __set_name__(self, owner: type[State], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, state: None, owner: type[State]) -> Event[D]: ...
    @overload
    def __get__(self, state: Reservable, owner: type[State]) -> Callable[[D], None]: ...
    def __get__(
        self, state: Reservable | None, owner: type[State]
    ) -> Event[D] | Callable[[D], None]:
        if state is None:
            return self
        return lambda data: state.device.emit(state.hold, self.name, data)

    def info(self) -> EventInfo:
        """What clients are told of this event."""
        return EventInfo(description=self.description, data=self.data.model_json_schema())


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

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Method:
        """Read the contract off a signature.

        Raises:
            TypeError: a parameter or the return value has no type, or a parameter no name.
        """
        name = function.__name__
        hints = typing.get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        if "return" not in hints:
            raise TypeError(f"method {name} says not what it returns")
        fields: dict[str, Any] = {}
        parameters: dict[str, str] = {}
        for parameter in list(signature.parameters.values())[1:]:
            if parameter.name not in hints:
                raise TypeError(f"method {name}: parameter {parameter.name} has no type")
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"method {name}: {parameter.name} can't be passed by its name")
            default = ... if parameter.default is parameter.empty else parameter.default
            # The model's own attributes must not clash with names such as "validate".
            parameters[f"arg_{parameter.name}"] = parameter.name
            fields[f"arg_{parameter.name}"] = (
                hints[parameter.name],
                Field(default, alias=parameter.name),
            )
        return cls(
            name=name,
            description=inspect.getdoc(function) or "",
            function=function,
            args=create_model(f"{name}_args", __base__=Args, **fields),
            returns=TypeAdapter(hints["return"]),
            parameters=parameters,
        )

    def parse(self, args: dict[str, Any], blobs: BlobSource) -> dict[str, Any]:
        """The arguments as the method takes them, files with their bytes.

        Raises:
            InvalidRequest: they are not what the signature says.
            BlobMissing: the bytes of a file have not arrived.
        """
        try:
            parsed = self.args.model_validate(args, context={"blobs": blobs})
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

    def call(self, state: State, arguments: dict[str, Any]) -> JsonValue:
        """Call it on ``state``; the result as JSON."""
        result: JsonValue = self.returns.dump_python(self.function(state, **arguments), mode="json")
        return result

    def info(self) -> MethodInfo:
        """What clients are told of this method."""
        return MethodInfo(
            description=self.description,
            args=self.args.model_json_schema(by_alias=True),
            returns=self.returns.json_schema(mode="serialization"),
        )


def method(function: F) -> F:
    """Offer a method of a state to clients; the function is returned unchanged."""
    function.__icebus_method__ = True  # type: ignore[attr-defined]
    return function


def reservable(kind: str, firmware: str) -> Callable[[S], S]:
    """Make a state one that clients can reserve devices for.

    Args:
        kind: its name on the bus.
        firmware: the name of what a board must run for it.
    """
    if not is_id(kind):
        raise InvalidRequest(f"{kind!r} can't name a kind: letters, digits, _ and - only")

    def register(cls: S) -> S:
        members = {
            name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()
        }
        cls.kind = kind
        cls.firmware = firmware
        cls.methods = {
            name: Method.of(value)
            for name, value in members.items()
            if getattr(value, "__icebus_method__", False)
        }
        cls.events = {name: value for name, value in members.items() if isinstance(value, Event)}
        return cls

    return register
