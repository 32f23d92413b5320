"""The reference of all commands in docs/cli.md, from what the programs themselves are made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
import typer.main

from icebus.broker.cli.app import app as broker_app
from icebus.client.cli.app import PANELS
from icebus.client.cli.app import app as client_app
from icebus.client.cli.exit_codes import EXIT_CODES
from icebus.control.cli import app as control_app
from icebus.rack.cli import app as rack_app
from icebus.worker.cli import app as worker_app

PROGRAMS = {
    "icebus": client_app,
    "icebus-broker": broker_app,
    "icebus-control": control_app,
    "icebus-worker": worker_app,
    "icebus-rack": rack_app,
}

EVERYWHERE = frozenset({"help", "install_completion", "show_completion"})
"""What every program has, and no table needs to say."""

_DEFAULT = re.compile(r"\s*[(\[]default: ([^()\[\]]*(?:\([^()]*\)[^()\[\]]*)*)[)\]]")
_INVISIBLE = "\u200b"
_EXAMPLES = re.compile(r"Examples?:\s*")


def reference() -> str:
    """All programs and commands, with their arguments and options."""
    parts: list[str] = []
    for name, app in PROGRAMS.items():
        parts += _program(name, typer.main.get_command(app))
    return "\n".join(parts)


def parameters() -> Iterator[tuple[str, Any]]:
    """Every argument and option of every command, with the command's whole name."""
    for name, app in PROGRAMS.items():
        for path, command in _walk(name, typer.main.get_command(app)):
            for each in command.params:
                if each.name not in EVERYWHERE:
                    yield path, each


def default_of(param: Any) -> str:
    """What holds where it is not given, for people; empty where that is nothing."""
    found = _DEFAULT.search(param.help or "")
    if found:
        return found[1]
    if isinstance(param.show_default, str):
        return param.show_default
    value = param.default
    if value is None or value == "" or callable(value) or param.count or not param.show_default:
        return ""
    if isinstance(value, bool):
        if not param.secondary_opts:
            return ""
        return f"`{param.opts[0] if value else param.secondary_opts[0]}`"
    value = getattr(value, "value", value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, each in sorted(getattr(command, "commands", {}).items()):
        if not each.hidden:
            yield from _walk(f"{path} {name}", each)


def _program(name: str, command: Any) -> list[str]:
    parts = [f"## {name}", "", *_described(name, command)]
    if name == "icebus":
        parts += ["| exit code | means |", "| --- | --- |"]
        parts += [f"| {code} | {means} |" for code, means in EXIT_CODES.items()]
        parts += ["", *_panels()]
    for path, each in _walk(name, command):
        if each is not command:
            parts += [f"### {path}", "", *_described(path, each)]
    return parts


def _panels() -> list[str]:
    """The commands of ``icebus`` as its help groups them."""
    lines = ["| for | commands |", "| --- | --- |"]
    for panel, names in PANELS.items():
        links = ", ".join(f"[{each}](#icebus-{each})" for each in names)
        lines.append(f"| {panel} | {links} |")
    return [*lines, ""]


def _described(path: str, command: Any) -> list[str]:
    parts = [f"`{' '.join([path, *_usage(command)])}`", ""]
    for paragraph in _paragraphs(command.help or ""):
        if paragraph.startswith("Example"):
            shown = _EXAMPLES.sub("", paragraph, count=1).splitlines()
            lines = [line.strip() for line in shown if line.strip()]
            parts += ["```console", *(f"$ {line}" for line in lines), "```", ""]
        else:
            parts += [_escaped(" ".join(paragraph.split())), ""]
    rows = [_row(each) for each in command.params if each.name not in EVERYWHERE]
    if rows:
        parts += ["| argument, option | what | default |", "| --- | --- | --- |", *rows, ""]
    return parts


def _paragraphs(text: str) -> Iterator[str]:
    cleaned = inspect.cleandoc(text.replace(_INVISIBLE, "").replace("\b", ""))
    for paragraph in re.split(r"\n\s*\n", cleaned):
        if paragraph.strip():
            yield paragraph.strip()


def _usage(command: Any) -> Iterator[str]:
    if any(each.param_type_name == "option" for each in command.params):
        yield "[OPTIONS]"
    for each in command.params:
        if each.param_type_name == "argument":
            yield _argument(each)
    if getattr(command, "commands", {}):
        yield "[COMMAND]" if command.invoke_without_command else "COMMAND"


def _argument(param: Any) -> str:
    many = "..." if param.nargs == -1 else ""
    name = param.metavar or str(param.name).upper()
    if name.startswith("["):
        return str(name)
    return f"{name}{many}" if param.required else f"[{name}]{many}"


def _row(param: Any) -> str:
    default = default_of(param)
    what = _DEFAULT.sub("", param.help or "").strip()
    if param.envvar:
        what += f" Also by `${param.envvar}`."
    if not default and param.required:
        default = "has to be given"
    return f"| {_names(param)} | {_cell(what)} | {_cell(default)} |"


def _names(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{_argument(param)}`".replace("|", "\\|")
    flags = sorted(param.opts, key=len)
    if param.secondary_opts:
        flags += param.secondary_opts
    names = ", ".join(f"`{flag}`" for flag in flags)
    value = _value(param)
    return f"{names} {value}".strip().replace("|", "\\|")


def _value(param: Any) -> str:
    """What stands behind an option, and within which bounds."""
    if param.is_flag or param.count:
        return ""
    kind = param.type_descriptor
    bounds = _bounds(param)
    if param.metavar:
        return f"{param.metavar}{bounds}"
    if kind.is_choice and kind.choices:
        return " or ".join(f"`{getattr(each, 'value', each)}`" for each in kind.choices)
    return f"{_type_name(kind)}{bounds}"


def _type_name(kind: Any) -> str:
    annotation = str(getattr(kind.annotation, "__name__", kind.annotation))
    if "Path" in str(kind.annotation) or kind.is_path:
        return "PATH"
    if "float" in annotation:
        return "NUMBER"
    return "INTEGER" if "int" in annotation else "TEXT"


def _bounds(param: Any) -> str:
    low, high = getattr(param, "min", None), getattr(param, "max", None)
    if low is None and high is None:
        return ""
    if high is None:
        return f" (at least {low:g})"
    return f" (at most {high:g})" if low is None else f" ({low:g} to {high:g})"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: nothing between < and > is a tag of HTML."""
    parts = text.split("`")
    return "`".join(
        part if at % 2 else part.replace("<", "&lt;").replace("*", "\\*")
        for at, part in enumerate(parts)
    )


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|").replace("\n", " ")
