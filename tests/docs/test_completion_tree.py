"""The file that completions are answered from is what the commands are."""

from __future__ import annotations

from tests.docs.completion_tree import completion_tree

from icebus.client.cli.completing.candidates import COMPLETERS
from icebus.client.cli.completing.command_tree import TREE, read_tree


def test_given_the_commands_when_completed_then_the_file_of_them_is_up_to_date() -> None:
    assert TREE.read_text() == completion_tree(), "run python -m tests.docs.completion_tree"


def test_given_the_file_of_commands_when_read_then_every_completer_is_there() -> None:
    named: set[str] = set()

    def walk(command: dict[str, object]) -> None:
        for each in [*command.get("options", ()), *command.get("arguments", ())]:  # type: ignore[misc]
            named.add(each.get("completer") or "")
        for each in command.get("commands", {}).values():  # type: ignore[attr-defined]
            walk(each)

    walk(dict(read_tree()))
    assert named - {"", "farm", "saved_farm", "running_farm"} == set(COMPLETERS)
