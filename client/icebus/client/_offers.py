"""What the workers of a farm offer, put together: kinds, and the workers that agree on each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from icebus.schemas.components import KindInfo, MethodInfo, WorkerKinds
from icebus.schemas.errors import UnknownKind, UnknownMethod


@dataclass(frozen=True)
class Offer:
    """A kind, and the workers that offer it in just this form.

    Attributes:
        kind: its name.
        workers: sorted.
        info: methods, events and arguments, with their JSON Schemas.
    """

    kind: str
    workers: tuple[str, ...]
    info: KindInfo


def merge(kinds: Mapping[str, WorkerKinds]) -> list[Offer]:
    """All offers, by name; those of one kind that differ stand apart, the commonest first."""
    groups: dict[tuple[str, str], tuple[KindInfo, list[str]]] = {}
    for worker in sorted(kinds):
        for kind, info in kinds[worker].kinds.items():
            groups.setdefault((kind, info.model_dump_json()), (info, []))[1].append(worker)
    offers = [Offer(kind, tuple(workers), info) for (kind, _), (info, workers) in groups.items()]
    return sorted(offers, key=lambda offer: (offer.kind, -len(offer.workers), offer.workers))


def find(offers: Iterable[Offer], kind: str) -> list[Offer]:
    """The offers of one kind.

    Raises:
        UnknownKind: nobody offers it.
    """
    known = list(offers)
    found = [offer for offer in known if offer.kind == kind]
    if not found:
        names = sorted({offer.kind for offer in known})
        there = f"there are {', '.join(names)}" if names else "no worker offers any"
        raise UnknownKind(f"no worker offers kind {kind!r}; {there}", kind=kind)
    return found


def find_method(info: KindInfo, kind: str, method: str) -> MethodInfo:
    """A method of a kind.

    Raises:
        UnknownMethod: it has none of that name.
    """
    if method not in info.methods:
        raise UnknownMethod(
            f"kind {kind} has no method {method!r}; it has {', '.join(sorted(info.methods))}; "
            f"`icebus kinds {kind}` describes them",
            method=method,
        )
    return info.methods[method]
