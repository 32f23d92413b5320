"""The commands as the file that completions are answered from.

``python -m tests.docs.completion_tree`` writes it anew.
"""

from __future__ import annotations

import json
from typing import Any, cast

import typer.main

from icebus.client.cli.app import app
from icebus.client.cli.completing.candidates import COMPLETERS
from icebus.client.cli.completing.command_tree import TREE
from icebus.client.cli.completing.shells import tidy
from icebus.client.cli.options.completion import FIXED
from icebus.schemas import topics


def completion_tree() -> str:
    """The file's contents."""
    families = sorted({name for names, _ in COMPLETERS.values() for name in names})
    tree = _command(typer.main.get_command(app))
    root = topics.DEFAULT_ROOT + "/"
    tree["topics"] = {
        name: cast("topics.Topic", getattr(topics, name)).filter().removeprefix(root)
        for name in families
    }
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


def _command(command: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"help": _first_sentence(command.help)}
    found["options"] = [_option(each) for each in command.params if _is_option(each)]
    if hasattr(command, "commands"):
        found["commands"] = {
            name: _command(each) for name, each in command.commands.items() if not each.hidden
        }
    else:
        found["arguments"] = [_value(each) for each in command.params if not _is_option(each)]
    return found


def _option(option: Any) -> dict[str, Any]:
    takes_value = not option.is_flag and not option.count
    found = _value(option) if takes_value else {"name": option.name}
    return found | {
        "names": [*option.opts, *option.secondary_opts],
        "help": _first_sentence(option.help),
        "hidden": option.hidden,
        "many": bool(option.multiple or option.count),
        "value": takes_value,
    }


def _value(param: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": param.name, "many": param.nargs == -1}
    default = getattr(param.default, "value", param.default)
    if isinstance(default, str):
        found["default"] = default
    kind = param.type_descriptor
    if kind.is_choice and kind.choices:
        found["choices"] = [str(getattr(each, "value", each)) for each in kind.choices]
    completer = kind.parameter_info.autocompletion
    if completer in FIXED:
        found["choices"] = [word for word, _ in completer("")]
    elif completer is not None:
        found["completer"] = completer.__name__
    return found


def _is_option(param: Any) -> bool:
    return bool(param.param_type_name == "option")


def _first_sentence(text: str | None) -> str:
    return tidy((text or "").split(". ")[0].removesuffix("."))


if __name__ == "__main__":
    TREE.write_text(completion_tree())
