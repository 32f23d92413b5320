"""What the workers of a farm offer, put together: kinds, and the workers that agree on each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from icebus.schemas.components import KindInfo, MethodInfo, WorkerKinds
from icebus.schemas.errors import UnknownKind, UnknownMethod
from icebus.schemas.wording import KINDS_AT_START


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


def commonest(offers: Iterable[Offer]) -> dict[str, KindInfo]:
    """Each kind in the form that most workers offer."""
    found: dict[str, KindInfo] = {}
    for offer in offers:
        found.setdefault(offer.kind, offer.info)
    return found


def find_kind(kinds: Mapping[str, KindInfo], kind: str) -> KindInfo:
    """A kind that is offered.

    Raises:
        UnknownKind: nobody offers it.
    """
    if kind not in kinds:
        raise _unknown(kind, kinds)
    return kinds[kind]


def measures(info: KindInfo) -> bool:
    """Whether a kind takes files and gives exactly one outcome for each."""
    return "evaluate" in info.methods and {"results", "failures", "finished"} <= info.events.keys()


def find(offers: Iterable[Offer], kind: str) -> list[Offer]:
    """The offers of one kind.

    Raises:
        UnknownKind: nobody offers it.
    """
    known = list(offers)
    found = [offer for offer in known if offer.kind == kind]
    if not found:
        raise _unknown(kind, (offer.kind for offer in known))
    return found


def _unknown(kind: str, known: Iterable[str]) -> UnknownKind:
    names = sorted(set(known))
    verb = "is" if len(names) == 1 else "are"
    there = f"there {verb} {', '.join(names)}" if names else "no worker offers any"
    return UnknownKind(f"no worker offers kind {kind!r}; {there}; {KINDS_AT_START}", kind=kind)


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
