"""The order in which a step's nodes are worked out for many steps at once.

The nodes fall into *groups*, each after those it depends on. A group is one of

* a gate;
* a state bit on its own, whose next value depends on itself at most: for many steps at once that is
  a scan, see :mod:`icebus.fpga.waves`;
* a *knot*: state bits that depend on each other, such as a counter that is reset by a comparison of
  all its bits. Some nodes of it, the *guessed* ones, are assumed not to change; then the rest of it
  falls into gates and single state bits. The assumption is checked for every step, and holds for
  as long as nothing happens (a divider's reset is idle for all but one step of a period).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icebus.fpga.graph import components, hub
from icebus.fpga.logic import compiled
from icebus.fpga.steps import STATE, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Operation = tuple[int, "Callable[[Any, Any, Any, Any, Any], Any]", int, int, int, int]
"""A gate: its node, its function and the nodes of its four operands."""


@dataclass(frozen=True, slots=True)
class Single:
    """A state bit on its own, or a gate (then ``state`` is 0).

    Attributes:
        state: the node of the state bit.
        following: the node of its next value.
        gates: the gates of it that depend on the state bit itself.
        feedback: whether its next value depends on itself.
        toggles: whether, whatever else there is, its next value is one thing if it is 0 and the
            opposite if it is 1; so for the bits of counters.
    """

    state: int
    following: int
    gates: tuple[Operation, ...]
    feedback: bool
    toggles: bool = False


@dataclass(frozen=True, slots=True)
class Knot:
    """State bits that depend on each other.

    Attributes:
        guessed: gates (first) and state bits that are assumed not to change.
        guessed_gates: how to work out those gates once everything else is known, in order.
        guessed_states: the nodes of the next values of the guessed state bits.
        parts: the rest, in order.
        scalar: all gates of the knot in order, for one exact step.
        states: all state bits of the knot and the nodes of their next values.
        inputs: nodes outside of the knot that it depends on.
        exports: nodes of the knot that others depend on, state bits included.
        used: those of them that others depend on.
    """

    guessed: tuple[int, ...]
    guessed_gates: tuple[Operation, ...]
    guessed_states: tuple[int, ...]
    parts: tuple[Single, ...]
    scalar: tuple[Operation, ...]
    states: tuple[tuple[int, int], ...]
    inputs: tuple[int, ...]
    exports: tuple[int, ...]
    used: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The groups of a step in order."""

    step: Step
    groups: tuple[Single | Knot, ...]


def make_plan(step: Step) -> Plan:
    """Order a step."""
    return _Planner(step).plan()


class _Planner:
    def __init__(self, step: Step) -> None:
        self._step = step
        self._first_gate = STATE + step.states
        self._drivers: dict[int, tuple[int, ...]] = {0: (), 1: (), 2: ()}
        for i, following in enumerate(step.following):
            self._drivers[STATE + i] = (following,)
        for i, (_, inputs) in enumerate(step.gates):
            self._drivers[self._first_gate + i] = inputs

    def plan(self) -> Plan:
        groups: list[Single | Knot] = []
        for members in components(range(STATE, len(self._drivers)), self._drivers):
            group = self._single(members)
            groups.append(group if group is not None else self._knot(members))
        return Plan(self._step, tuple(groups))

    def _is_state(self, node: int) -> bool:
        return STATE <= node < self._first_gate

    def _operation(self, node: int) -> Operation:
        table, inputs = self._step.gates[node - self._first_gate]
        a, b, c, d = (*inputs, 0, 0, 0, 0)[:4]
        return node, compiled(table, len(inputs)), a, b, c, d

    def _in_order(self, gates: Sequence[int]) -> tuple[Operation, ...]:
        return tuple(self._operation(node) for node in sorted(gates))

    def _single(self, members: list[int]) -> Single | None:
        """The group of a component that has one state bit at most."""
        states = [node for node in members if self._is_state(node)]
        if len(states) > 1:
            return None
        gates = [node for node in members if not self._is_state(node)]
        if not states:
            return Single(0, gates[0], self._in_order(gates), feedback=False)
        state = states[0]
        following = self._drivers[state][0]
        feedback = bool(gates) or following == state
        toggles = len(gates) == 1 and self._inverts(gates[0], state)
        return Single(state, following, self._in_order(gates), feedback, toggles)

    def _inverts(self, gate: int, node: int) -> bool:
        """Whether a gate always changes when that input of it changes."""
        table, inputs = self._step.gates[gate - self._first_gate]
        if inputs.count(node) != 1:
            return False
        pin = 1 << inputs.index(node)
        return all((table >> row ^ table >> (row ^ pin)) & 1 for row in range(1 << len(inputs)))

    def _knot(self, members: list[int]) -> Knot:
        guessed: set[int] = set()
        parts: list[Single] = []
        drivers = {node: self._drivers[node] for node in members}
        self._untie(members, drivers, guessed, parts)
        gates = sorted(node for node in guessed if not self._is_state(node))
        states = sorted(node for node in guessed if self._is_state(node))
        inside = set(members)
        inputs = {i for node in members for i in self._drivers[node] if i not in inside and i > 1}
        outside = {self._step.output}
        for node, of_node in self._drivers.items():
            if node not in inside:
                outside.update(of_node)
        return Knot(
            guessed=(*gates, *states),
            guessed_gates=self._in_order(gates),
            guessed_states=tuple(self._drivers[node][0] for node in states),
            parts=tuple(self._ordered(parts, guessed)),
            scalar=self._in_order([node for node in members if not self._is_state(node)]),
            states=tuple((n, self._drivers[n][0]) for n in sorted(members) if self._is_state(n)),
            inputs=tuple(sorted(inputs)),
            exports=tuple(
                node for node in sorted(members) if self._is_state(node) or node in outside
            ),
            used=tuple(node for node in sorted(members) if node in outside),
        )

    def _untie(
        self,
        members: list[int],
        drivers: dict[int, tuple[int, ...]],
        guessed: set[int],
        parts: list[Single],
    ) -> None:
        """Guess nodes until what is left are gates and single state bits."""
        work = [members]
        while work:
            knot = work.pop()
            node = hub(knot, drivers)
            guessed.add(node)
            for part in components([other for other in knot if other != node], drivers):
                single = self._single(part)
                if single is None:
                    work.append(part)
                else:
                    parts.append(single)

    def _ordered(self, parts: list[Single], guessed: set[int]) -> list[Single]:
        """Parts so that each comes after what it depends on, guessed nodes aside."""
        owner: dict[int, int] = {}
        for i, part in enumerate(parts):
            if part.state:
                owner[part.state] = i
            for operation in part.gates:
                owner[operation[0]] = i
        needs: dict[int, list[int]] = {}
        for i, part in enumerate(parts):
            nodes = [operand for operation in part.gates for operand in operation[2:]]
            if part.state:
                nodes.append(part.following)
            needs[i] = [
                owner[node] for node in nodes if node not in guessed and owner.get(node, i) != i
            ]
        return [parts[i] for members in components(range(len(parts)), needs) for i in members]
