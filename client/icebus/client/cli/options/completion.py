"""What options and arguments are completed by, for typer: see :mod:`icebus.client.cli.completing`.

typer itself asks these where a shell has no quicker way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import typer

from icebus.client.cli.completing.command_tree import Words

Completer: TypeAlias = Callable[[typer.Context, str], Words]


def _completer(name: str) -> Completer:
    def complete(ctx: typer.Context, incomplete: str) -> Words:
        from icebus.client.cli.completing.asking import complete as found

        farm = ctx.find_root().params.get("farm")
        return found(name, {"farm": farm} | ctx.params, incomplete)

    # How the file of commands names it.
    complete.__name__ = name
    return complete


complete_serial = _completer("serial")
complete_held_serial = _completer("held_serial")
complete_reservation = _completer("reservation")
complete_offer = _completer("offer")
complete_farm = _completer("farm")
complete_saved_farm = _completer("saved_farm")
complete_running_farm = _completer("running_farm")
complete_any_reservation = _completer("any_reservation")
complete_release = _completer("release")
complete_user = _completer("user")
complete_worker = _completer("worker")
complete_selector = _completer("selector")
complete_kind = _completer("kind")
complete_measuring_kind = _completer("measuring_kind")
complete_reservation_argument = _completer("reservation_argument")
complete_measurement_argument = _completer("measurement_argument")
complete_method = _completer("method")


def complete_event(incomplete: str) -> Words:
    """What can stand in the history; no farm has to be asked for it."""
    from icebus.schemas.operations.history import HistoryEvent

    return [(str(each), "") for each in HistoryEvent if each.startswith(incomplete)]


FIXED: tuple[Callable[[str], Words], ...] = (complete_event,)
"""Those whose words depend on nothing."""
