"""Prints the summary of a run of chaos, for people and for machines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.chaos.client_record import ClientSummary
from bench.chaos.summary import Summary


def show(summary: Summary) -> None:
    """Print it for people."""
    console = Console(width=140 if not sys.stdout.isatty() else None, highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("CLIENT", "STARTS", "RUNS", "RESULTS", "FAILURES", "INTERRUPTED", "COLLECTED"):
        table.add_column(heading, justify="left" if heading == "CLIENT" else "right")
    for name, client in summary.clients.items():
        failed = sum(client.failures.values())
        numbers = (
            client.starts,
            client.runs,
            client.results,
            failed,
            client.interrupted,
            client.collected,
        )
        table.add_row(name, *map(str, numbers))
    console.print(table)
    _show_counts(console, "Evaluations failed with", summary, lambda client: client.failures)
    _show_counts(
        console, "Other operations failed with", summary, lambda client: client.other_errors
    )
    faults = Counter(f"{fault.type} {fault.target}" for fault in summary.faults)
    console.print(f"\nFaults: {_listed(faults)}")
    if summary.ended:
        console.print("\nEnded by themselves:")
        for name, texts in summary.ended.items():
            console.print(f"  {name}: {len(texts)} times, last with {texts[-1]}", markup=False)
    if summary.errors:
        console.print("\nErrors in logs:")
        for text, count in summary.errors.most_common(12):
            console.print(f"  {count:4} {text}", markup=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("PART", "THREADS", "DESCRIPTORS", "MIB"):
        table.add_column(heading, justify="left" if heading == "PART" else "right")
    for name, (then, now) in summary.resources.items():
        table.add_row(
            name,
            f"{then.threads} → {now.threads}",
            f"{then.files} → {now.files}",
            f"{then.memory:.0f} → {now.memory:.0f}",
        )
    console.print()
    console.print(table)
    ready = "never" if summary.ready is None else f"{summary.ready:.1f} s after the last repair"
    console.print(f"\nIdle and ready: {ready}")
    for text in summary.broken:
        console.print(f"BROKEN: {text}", markup=False)
    console.print(f"seed {summary.seed}: {'BROKEN' if summary.broken else 'every promise held'}")


def _show_counts(
    console: Console, title: str, summary: Summary, counts: Callable[[ClientSummary], Counter[str]]
) -> None:
    total: Counter[str] = Counter()
    for client in summary.clients.values():
        total += counts(client)
    if total:
        console.print(f"\n{title}: {_listed(total)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {what}" for what, count in counts.most_common())


def as_json(summary: Summary) -> dict[str, Any]:
    """It as an object for JSON."""
    return {
        "seed": summary.seed,
        "faults": [
            {"at": f.at, "target": f.target, "type": f.type, "seconds": f.seconds}
            for f in summary.faults
        ],
        "clients": {
            name: {
                "starts": client.starts,
                "runs": client.runs,
                "results": client.results,
                "failures": dict(client.failures),
                "interrupted": client.interrupted,
                "collected": client.collected,
                "other_errors": dict(client.other_errors),
            }
            for name, client in summary.clients.items()
        },
        "ended": summary.ended,
        "errors": dict(summary.errors),
        "resources": {
            name: {"before": vars(then), "after": vars(now)}
            for name, (then, now) in summary.resources.items()
        },
        "ready": summary.ready,
        "broken": summary.broken,
    }
