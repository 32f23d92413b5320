"""The order in which the nodes of a state machine are evaluated, for many steps at once.

The nodes fall into *groups*, each after those it depends on. A group is one of

* a gate;
* a state bit on its own, whose next value depends on itself at most: for many steps at once that is
  a scan, see :mod:`icebus.fpga._engines.synchronous.integer_waveforms`;
* *coupled* state bits, which depend on each other, such as a counter that is reset by a comparison
  of all its bits. Some of their nodes are *guessed* not to change; then the rest falls into gates
  and single state bits. The guess is checked for every step, and holds for as long as nothing
  happens (a divider's reset is idle for all but one step of a period).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icebus.fpga._netlist.graph import feedback_vertex, strong_components
from icebus.fpga._netlist.truth_tables import compile_table
from icebus.fpga._state_machine.state_machine import STATE, StateMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Operation = tuple[int, "Callable[[Any, Any, Any, Any, Any], Any]", int, int, int, int]
"""A gate: its node, its function and the nodes of its four operands."""


@dataclass(frozen=True, slots=True)
class SingleGroup:
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
class CoupledGroup:
    """State bits that depend on each other, and the gates between them.

    Attributes:
        guessed: gates (first) and state bits that are guessed not to change.
        guessed_gates: how to evaluate those gates once everything else is known, in order.
        guessed_states: the nodes of the next values of the guessed state bits.
        parts: the rest, in order.
        gates: all its gates in order, for one exact step.
        states: all its state bits and the nodes of their next values.
        inputs: nodes outside of it that it depends on.
        outputs: its nodes that others depend on.
        recorded: nodes whose waveforms are kept: outputs and state bits.
    """

    guessed: tuple[int, ...]
    guessed_gates: tuple[Operation, ...]
    guessed_states: tuple[int, ...]
    parts: tuple[SingleGroup, ...]
    gates: tuple[Operation, ...]
    states: tuple[tuple[int, int], ...]
    inputs: tuple[int, ...]
    recorded: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The groups of a state machine in order."""

    machine: StateMachine
    groups: tuple[SingleGroup | CoupledGroup, ...]


def make_schedule(machine: StateMachine) -> Schedule:
    """Order the nodes of a state machine."""
    return _Scheduler(machine).schedule()


class _Scheduler:
    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._first_gate = STATE + machine.states
        self._drivers: dict[int, tuple[int, ...]] = {0: (), 1: (), 2: ()}
        for i, following in enumerate(machine.following):
            self._drivers[STATE + i] = (following,)
        for i, (_, inputs) in enumerate(machine.gates):
            self._drivers[self._first_gate + i] = inputs

    def schedule(self) -> Schedule:
        groups: list[SingleGroup | CoupledGroup] = []
        for members in strong_components(range(STATE, len(self._drivers)), self._drivers):
            group = self._single(members)
            groups.append(group if group is not None else self._coupled(members))
        return Schedule(self._machine, tuple(groups))

    def _is_state(self, node: int) -> bool:
        return STATE <= node < self._first_gate

    def _operation(self, node: int) -> Operation:
        table, inputs = self._machine.gates[node - self._first_gate]
        a, b, c, d = (*inputs, 0, 0, 0, 0)[:4]
        return node, compile_table(table, len(inputs)), a, b, c, d

    def _in_order(self, gates: Sequence[int]) -> tuple[Operation, ...]:
        return tuple(self._operation(node) for node in sorted(gates))

    def _single(self, members: list[int]) -> SingleGroup | None:
        """The group of a component that has one state bit at most."""
        states = [node for node in members if self._is_state(node)]
        if len(states) > 1:
            return None
        gates = [node for node in members if not self._is_state(node)]
        if not states:
            return SingleGroup(0, gates[0], self._in_order(gates), feedback=False)
        state = states[0]
        following = self._drivers[state][0]
        feedback = bool(gates) or following == state
        toggles = len(gates) == 1 and self._inverts(gates[0], state)
        return SingleGroup(state, following, self._in_order(gates), feedback, toggles)

    def _inverts(self, gate: int, node: int) -> bool:
        """Whether a gate always changes when that input of it changes."""
        table, inputs = self._machine.gates[gate - self._first_gate]
        if inputs.count(node) != 1:
            return False
        pin = 1 << inputs.index(node)
        return all((table >> row ^ table >> (row ^ pin)) & 1 for row in range(1 << len(inputs)))

    def _coupled(self, members: list[int]) -> CoupledGroup:
        guessed: set[int] = set()
        parts: list[SingleGroup] = []
        drivers = {node: self._drivers[node] for node in members}
        self._break_cycles(members, drivers, guessed, parts)
        gates = sorted(node for node in guessed if not self._is_state(node))
        states = sorted(node for node in guessed if self._is_state(node))
        inside = set(members)
        inputs = {i for node in members for i in self._drivers[node] if i not in inside and i > 1}
        outside = {self._machine.output}
        for node, of_node in self._drivers.items():
            if node not in inside:
                outside.update(of_node)
        return CoupledGroup(
            guessed=(*gates, *states),
            guessed_gates=self._in_order(gates),
            guessed_states=tuple(self._drivers[node][0] for node in states),
            parts=tuple(self._ordered(parts, guessed)),
            gates=self._in_order([node for node in members if not self._is_state(node)]),
            states=tuple((n, self._drivers[n][0]) for n in sorted(members) if self._is_state(n)),
            inputs=tuple(sorted(inputs)),
            recorded=tuple(
                node for node in sorted(members) if self._is_state(node) or node in outside
            ),
            outputs=tuple(node for node in sorted(members) if node in outside),
        )

    def _break_cycles(
        self,
        members: list[int],
        drivers: dict[int, tuple[int, ...]],
        guessed: set[int],
        parts: list[SingleGroup],
    ) -> None:
        """Guess nodes until what is left are gates and single state bits."""
        work = [members]
        while work:
            group = work.pop()
            node = feedback_vertex(group, drivers)
            guessed.add(node)
            for part in strong_components([other for other in group if other != node], drivers):
                single = self._single(part)
                if single is None:
                    work.append(part)
                else:
                    parts.append(single)

    def _ordered(self, parts: list[SingleGroup], guessed: set[int]) -> list[SingleGroup]:
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
        return [
            parts[i] for members in strong_components(range(len(parts)), needs) for i in members
        ]
