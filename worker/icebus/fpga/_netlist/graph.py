"""Strongly connected components, and the vertices to cut them open at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence


def strong_components(
    nodes: Iterable[int], drivers: Mapping[int, Sequence[int]] | Callable[[int], Sequence[int]]
) -> list[list[int]]:
    """Strongly connected components (Tarjan), each after those that drive it.

    Args:
        nodes: what to look at; drivers outside of it are ignored.
        drivers: what each node depends on.
    """
    look = drivers if callable(drivers) else drivers.__getitem__
    members = set(nodes)
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    active: set[int] = set()
    path: list[int] = []
    result: list[list[int]] = []
    for root in members:
        if root in index:
            continue
        work = [(root, iter(look(root)))]
        index[root] = low[root] = len(index)
        path.append(root)
        active.add(root)
        while work:
            node, left = work[-1]
            for driver in left:
                if driver not in members:
                    continue
                if driver not in index:
                    index[driver] = low[driver] = len(index)
                    path.append(driver)
                    active.add(driver)
                    work.append((driver, iter(look(driver))))
                    break
                if driver in active and index[driver] < low[node]:
                    low[node] = index[driver]
            else:
                work.pop()
                if work and low[node] < low[work[-1][0]]:
                    low[work[-1][0]] = low[node]
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = path.pop()
                        active.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    result.append(component)
    return result


def feedback_vertex(component: Collection[int], drivers: Mapping[int, Sequence[int]]) -> int:
    """A member to cut a component open at: the one that most paths lead through, roughly.

    Drivers in the component times followers in the component; of equals, the lowest number.
    """
    members = set(component)
    inputs = dict.fromkeys(members, 0)
    outputs = dict(inputs)
    for node in members:
        for driver in drivers[node]:
            if driver in members:
                inputs[node] += 1
                outputs[driver] += 1
    return max(sorted(members), key=lambda node: inputs[node] * outputs[node])
