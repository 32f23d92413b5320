"""The generated parts of ``docs/topics.md``, from the same table that the broker enforces.

``python -m icebus.schemas.documents.topics_page docs/topics.md`` renews them in place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from icebus.schemas.documents.asyncapi import kind_modules
from icebus.schemas.expiry import NEVER
from icebus.schemas.operations import accounts, administration, reservations
from icebus.schemas.topics import ALL, SELF, TOPICS, Grant, Role

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def renew(text: str) -> str:
    """The document with its generated parts as they should be.

    Raises:
        KeyError: it marks a part that we don't make.
    """
    parts = {
        "topics": topics(),
        "operations": operations(reservations.OPERATIONS),
        "administration": operations(administration.OPERATIONS),
        "accounts": operations(accounts.OPERATIONS),
        "events": events(),
    }
    return _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", text)


def topics() -> str:
    """Every topic."""
    rows = []
    for topic in sorted(TOPICS.values(), key=lambda each: each.template):
        payload = "bytes" if topic.model is None else topic.model.__name__
        kept = f"R {topic.qos}" if topic.retained else f"{topic.qos}"
        rows.append(
            (
                f"`{topic.template}`",
                kept if topic.expiry == NEVER else f"{kept}, {topic.expiry}",
                f"{_who(topic.writers)} → {_who(topic.readers)}",
                payload,
                _size(topic.limit),
                topic.about,
            )
        )
    return _table(
        ("topic", "retained QoS, expiry", "writer → reader", "payload", "at most", "about"), rows
    )


def operations(known: Mapping[str, tuple[type, type]]) -> str:
    """What control can be asked."""
    return _table(
        ("operation", "`args`", "`ok`"),
        [(f"`{name}`", args.__name__, answer.__name__) for name, (args, answer) in known.items()],
    )


def events() -> str:
    """What is sent to a reservation."""
    rows = [("control", f"`{name}`", model) for name, model in reservations.EVENTS.items()]
    for module in kind_modules():
        rows += [(module.KIND, f"`{name}`", model) for name, model in module.EVENTS.items()]
    return _table(
        ("from", "event", "`data`", "about"),
        [(sender, name, model.__name__, _about(model)) for sender, name, model in rows],
    )


def _about(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0].split(": ", 1)[-1].replace("``", "`")


def _size(limit: int) -> str:
    return f"{limit // 1024} KiB"


def _who(grants: Mapping[Role, Grant]) -> str:
    if grants == ALL:
        return "all"
    return ", ".join(
        f"that {role.value}" if SELF in grant.values() else role.value
        for role, grant in grants.items()
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renew(path.read_text()))
