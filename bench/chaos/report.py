"""The ledger of a run of chaos, for people and for machines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.chaos.account import Chaos
from bench.chaos.outcomes import Account


def show(chaos: Chaos) -> None:
    """Print the ledger."""
    console = Console(width=140 if not sys.stdout.isatty() else None, highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("CLIENT", "LIVES", "RUNS", "RIGHT", "FAILED", "KILLED UNDER WAY", "FETCHED"):
        table.add_column(heading, justify="left" if heading == "CLIENT" else "right")
    for name, account in chaos.accounts.items():
        failed = sum(account.failures.values())
        given = (account.lives, account.runs, account.results)
        numbers = (*given, failed, account.unknown, account.collected)
        table.add_row(name, *map(str, numbers))
    console.print(table)
    _show_counts(console, "Evaluations failed with", chaos, lambda account: account.failures)
    _show_counts(console, "Other operations failed with", chaos, lambda account: account.troubles)
    faults = Counter(f"{fault.kind} {fault.target}" for fault in chaos.faults)
    console.print(f"\nFaults: {_listed(faults)}")
    if chaos.ends:
        console.print("\nEnded by themselves:")
        for name, texts in chaos.ends.items():
            console.print(f"  {name}: {len(texts)} times, last with {texts[-1]}", markup=False)
    if chaos.errors:
        console.print("\nErrors in logs:")
        for text, count in chaos.errors.most_common(12):
            console.print(f"  {count:4} {text}", markup=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("PART", "THREADS", "DESCRIPTORS", "MIB"):
        table.add_column(heading, justify="left" if heading == "PART" else "right")
    for name, (then, now) in chaos.use.items():
        table.add_row(
            name,
            f"{then.threads} → {now.threads}",
            f"{then.files} → {now.files}",
            f"{then.memory:.0f} → {now.memory:.0f}",
        )
    console.print()
    console.print(table)
    ready = "never" if chaos.ready is None else f"{chaos.ready:.1f} s after the last repair"
    console.print(f"\nIdle and ready: {ready}")
    for text in chaos.broken:
        console.print(f"BROKEN: {text}", markup=False)
    console.print(f"seed {chaos.seed}: {'BROKEN' if chaos.broken else 'every promise held'}")


def _show_counts(
    console: Console, title: str, chaos: Chaos, counts: Callable[[Account], Counter[str]]
) -> None:
    total: Counter[str] = Counter()
    for account in chaos.accounts.values():
        total += counts(account)
    if total:
        console.print(f"\n{title}: {_listed(total)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in counts.most_common())


def as_json(chaos: Chaos) -> dict[str, Any]:
    """The same for machines."""
    return {
        "seed": chaos.seed,
        "faults": [
            {"at": f.at, "target": f.target, "kind": f.kind, "seconds": f.seconds}
            for f in chaos.faults
        ],
        "clients": {
            name: {
                "lives": account.lives,
                "runs": account.runs,
                "results": account.results,
                "failures": dict(account.failures),
                "unknown": account.unknown,
                "collected": account.collected,
                "troubles": dict(account.troubles),
            }
            for name, account in chaos.accounts.items()
        },
        "ended": chaos.ends,
        "errors": dict(chaos.errors),
        "use": {
            name: {"before": vars(then), "after": vars(now)}
            for name, (then, now) in chaos.use.items()
        },
        "ready": chaos.ready,
        "broken": chaos.broken,
    }
