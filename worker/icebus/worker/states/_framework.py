"""The framework of states: their hooks, and events for clients.

A state is event based: its hooks run on its device's loop, one at a time, so it needs no lock and
must not block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, overload

from pydantic import BaseModel

from icebus.schemas.components import EventInfo, KindInfo
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError, InvalidRequest
from icebus.schemas.ids import is_id
from icebus.schemas.measuring import Result
from icebus.schemas.message import Args, Message
from icebus.worker.firmware import Meter
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Callback, Timer
from icebus.worker.states._hosts import Hold, Host
from icebus.worker.states._methods import Method, methods_in

D = TypeVar("D", bound=Message)
S = TypeVar("S", bound="type[Reservable]")


class State:
    """What a device does now. Exactly one state of a device is alive at a time.

    Attributes:
        reported: the name under which the bus knows it.
        reason: why, where the name alone does not say.
        retry_at: when it is left by itself, where that is to be known.
        commandable: whether a reboot or reflash that is asked for may end it at once.
        outlives_port: whether it goes on when the board's port is gone.
        device: whose state this is; set before :meth:`on_enter`.
    """

    reported: DeviceState
    reason: str = ""
    retry_at: datetime | None = None
    commandable: ClassVar[bool] = False
    outlives_port: ClassVar[bool] = False
    device: Host

    def __init__(self) -> None:
        self._timers: list[Timer] = []
        self._left = False

    def on_enter(self) -> None:
        """The state begins. :meth:`on_add` follows if the board's port is open."""

    def on_add(self, port: Port) -> None:
        """The board's serial port is there."""

    def on_data(self, data: bytes) -> None:
        """Bytes have come from the board."""

    def on_remove(self) -> None:
        """The board's serial port is gone. The state ends, unless it ``outlives_port``."""

    def on_exit(self, why: IcebusError) -> None:
        """The state ends. ``why`` is what work still outstanding ends with."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self._left

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Run ``callback`` in ``seconds``, if the state is alive by then."""
        timer = self.device.after(self, seconds, callback)
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
        firmware: what a board may run for it, preferred first.
        Args: what a reservation may ask for.
        measures: whether it measures files, as :class:`~icebus.worker.states.Measuring` does.
        takes_over: whether it can begin while the board still answers a check of the idle board.
        hold: who holds the device.
        args: what the reservation asked for.
        probe: the meter of that check, for one that takes over: its answer is nobody's, and nothing
            may be sent before it has come.
    """

    reported = DeviceState.SERVING
    commandable = True
    kind: ClassVar[str]
    firmware: ClassVar[tuple[str, ...]]
    measures: ClassVar[bool] = False
    takes_over: ClassVar[bool] = False
    methods: ClassVar[dict[str, Method]]
    events: ClassVar[dict[str, Event[Any]]]

    class Args(Args):
        """Nothing, unless a kind says otherwise."""

    def __init__(self, hold: Hold, args: BaseModel) -> None:
        super().__init__()
        self.hold = hold
        self.args = args
        self.probe: Meter[Any] | None = None

    def on_stop(self, why: IcebusError) -> None:
        """The worker is being stopped: end what waits with ``why``, finish what is under way.

        Say ``finished`` when that is done; it is not waited for long.
        """
        self.device.finished()

    @property
    def idle(self) -> bool:
        """Whether the firmware is known to wait for work, so that the next holder needs no test."""
        return False

    @property
    def load(self) -> int:
        """How many pieces of work wait or are under way."""
        return 0

    @property
    def board_firmware(self) -> str:
        """Which of its firmware the board runs; known from :meth:`on_enter` on."""
        return self.device.firmware

    @classmethod
    def info(cls) -> KindInfo:
        """The kind as workers publish it."""
        return KindInfo(
            description=inspect.getdoc(cls) or "",
            firmware=cls.firmware[0],
            other_firmware=list(cls.firmware[1:]),
            measures=cls.measures,
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
        """The event as workers publish it."""
        return EventInfo(description=self.description, data=self.data.model_json_schema())


def reservable(kind: str, firmware: str | tuple[str, ...]) -> Callable[[S], S]:
    """Make a state one that clients can reserve devices for.

    Args:
        kind: its name on the bus.
        firmware: the name of what a board must run for it; of several, any will do, and a board
            that runs none of them is given the first of which there is an image for it.
    """
    names = (firmware,) if isinstance(firmware, str) else firmware
    if not names:
        raise InvalidRequest(f"kind {kind} needs the name of a firmware to run on")
    if not is_id(kind):
        raise InvalidRequest(f"{kind!r} can't name a kind: letters, digits, _ and - only")

    def register(cls: S) -> S:
        members = {
            name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()
        }
        cls.kind = kind
        cls.firmware = names
        cls.methods = methods_in(members, cls)
        cls.events = {name: value for name, value in members.items() if isinstance(value, Event)}
        results = cls.events.get("results")
        if cls.measures and not (results is not None and issubclass(results.data, Result)):
            raise TypeError(f"kind {kind} measures, so it needs `results = Event(ItsResult)`")
        return cls

    return register
