"""The framework of states: their hooks, what they see of their device, events for clients.

A state is event based: its hooks run on its device's loop, one at a time, so it needs no lock and
must not block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, Protocol, TypeVar, overload

from pydantic import BaseModel

from icebus.schemas.components import EventInfo, KindInfo
from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import IcebusError, InvalidRequest
from icebus.schemas.ids import is_id
from icebus.schemas.message import Args, Message
from icebus.worker.device.journal import Journal
from icebus.worker.firmware.measuring import Meter
from icebus.worker.hardware.board import Board
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Callback, Loop, Timer
from icebus.worker.states._methods import Method, methods_in

D = TypeVar("D", bound=Message)
T = TypeVar("T")
S = TypeVar("S", bound="type[Reservable]")


@dataclass(frozen=True)
class Hold:
    """The reservation a device serves."""

    reservation: str
    user: str


class Host(Protocol):
    """What a state may use of its device: facts to read, and words to say what has happened.

    A state never chooses its successor. It says ``proved``, ``fail``, ``lost``, and the device
    decides what comes next.
    """

    @property
    def name(self) -> str:
        """The device's serial, or where it is while that is not known."""

    @property
    def loop(self) -> Loop:
        """The thread that everything of the device happens on."""

    @property
    def board(self) -> Board | None:
        """The board as it is plugged."""

    @property
    def port(self) -> Port | None:
        """Its serial port, while that is open."""

    @property
    def desired(self) -> Desired | None:
        """What control wants of the device."""

    @property
    def state(self) -> State | None:
        """The state that is alive."""

    @property
    def journal(self) -> Journal:
        """The device's memory of evaluations."""

    def open(self) -> None:
        """Open the board's port."""

    def close(self) -> None:
        """Close the board's port."""

    def proved(self, firmware: str) -> None:
        """The board runs ``firmware`` and is idle."""

    def unrecognised(self) -> None:
        """The board lives but runs nothing known."""

    def flashed(self, firmware: str) -> None:
        """The board was given ``firmware`` and its port is open."""

    def found(self) -> None:
        """The board is back and its port is open."""

    def lost(self, reason: str) -> None:
        """The board is gone."""

    def fail(self, reason: str) -> None:
        """The board does not do what it should."""

    def retry(self) -> None:
        """Look at the board anew."""

    def settle(self) -> None:
        """Be what is desired."""

    def reconcile(self) -> None:
        """Stop serving if that is no longer desired."""

    def finished(self) -> None:
        """What was under way when the worker was told to stop has ended."""

    def assist(
        self,
        step: Callable[[], T],
        then: Callable[[T], None],
        otherwise: Callable[[Exception], None],
    ) -> None:
        """Run a step that may block on a helper thread; how it ended is told on the loop."""

    def purpose(self, otherwise: DeviceState) -> DeviceState:
        """As what work on the board appears."""

    def progress(self, fraction: float) -> None:
        """Report how far a long step is."""

    def emit(self, hold: Hold, event: str, data: Message) -> None:
        """Send an event to the device's holder."""

    def run(self, state: State, step: Callback) -> None:
        """Run a step of a state; what it does not foresee is the device's failure."""


class State:
    """What a device does now. Exactly one state of a device is alive at a time.

    Attributes:
        reported: the name under which the bus knows it.
        reason: why, where the name alone does not say.
        retry_at: when it is left by itself, where that is to be known.
        commandable: whether a command of an administrator may end it at once.
        device: whose state this is; set before :meth:`on_enter`.
    """

    reported: DeviceState
    reason: str = ""
    retry_at: datetime | None = None
    commandable: ClassVar[bool] = False
    device: Host

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
        takes_over: whether it can begin while the board still answers a probe of the idle board.
        hold: who holds the device.
        args: what the reservation asked for.
        probe: that probe, for one that takes over: its answer is nobody's, and nothing may be sent
            before it has come.
    """

    reported = DeviceState.SERVING
    commandable = True
    kind: ClassVar[str]
    firmware: ClassVar[str]
    takes_over: ClassVar[bool] = False
    methods: ClassVar[dict[str, Method]]
    events: ClassVar[dict[str, Event[Any]]]

    class Args(Args):
        """Nothing, unless a kind says otherwise."""

    def __init__(self, hold: Hold, args: BaseModel) -> None:
        super().__init__()
        self.hold = hold
        self.args = args
        self.probe: Meter | None = None

    def on_desired(self) -> None:
        """End when somebody else is to hold the device."""
        self.device.reconcile()

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
        cls.methods = methods_in(members)
        cls.events = {name: value for name, value in members.items() if isinstance(value, Event)}
        return cls

    return register
