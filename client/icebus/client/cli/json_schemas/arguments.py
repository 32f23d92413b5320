"""Arguments of methods and kinds from the words of a command line, guided by their JSON Schemas."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from icebus.client.cli.json_schemas.signatures import (
    LIMITS,
    NUMERIC,
    Field,
    Schema,
    alternatives,
    fields,
    is_file,
    is_files,
    signature,
    type_of,
    types,
)

if TYPE_CHECKING:
    from icebus.schemas.files import Blob

FILE_MARK = "@"

LIST_HINT = ": give {name}=… for each, or {name}=[…, …]"
"""What to say to who writes a list in another way."""

Read = Callable[[str], bytes]
"""Reads the file of that path."""


@dataclass
class Arguments:
    """What a method is called with.

    Attributes:
        args: by name, as JSON; a file is named by its hash there.
        files: the bytes of those.
    """

    args: dict[str, Any] = field(default_factory=dict)
    files: list[Blob] = field(default_factory=list)


class _InvalidWord(Exception):
    """What is wrong with a word; becomes an error that shows what there is."""


def parse(words: Sequence[str], method: str, schema: Schema, read: Read) -> Arguments:
    """The arguments that the words give.

    Args:
        words: ``key=value``, ``key=@file``, or ``@file`` for the one argument that takes files. A
            key given repeatedly makes a list.
        method: its name.
        schema: of its arguments.
        read: reads a file.

    Raises:
        InvalidRequest: a key is unknown, missing or given twice, or a value is not what it may be;
            the message has the method's signature.
    """
    return _parse(words, schema, read, f"call it as {signature(method, schema)}")


def parse_named(words: Sequence[str], taker: str, schema: Schema) -> dict[str, Any]:
    """The values that the words give, none of them a file's bytes.

    Args:
        words: ``name=value``, or ``name=@file`` for a text that a file holds.
        taker: who takes them, for people.
        schema: of what it takes.

    Raises:
        InvalidRequest: a name is unknown or given twice, or a value is not what it may be; the
            message says what there is.
    """
    taken = ", ".join(map(str, fields(schema))) or "no arguments"
    return _parse(words, schema, _read_file, f"{taker} takes {taken}").args


def _read_file(path: str) -> bytes:
    return Path(path).read_bytes()


def _parse(words: Sequence[str], schema: Schema, read: Read, usage: str) -> Arguments:
    known = {each.name: each for each in fields(schema)}
    arguments = Arguments()
    try:
        for word in words:
            key, text = _split(word, known)
            _add(arguments, known[key], text, read)
        for name, value in arguments.args.items():
            _check_list(name, value, known[name].schema)
        missing = [name for name, each in known.items() if each.required]
        missing = [name for name in missing if name not in arguments.args]
        if missing:
            raise _InvalidWord(f"{', '.join(missing)} is missing")
    except _InvalidWord as wrong:
        from icebus.schemas.errors import InvalidRequest

        raise InvalidRequest(f"{wrong}; {usage}") from None
    return arguments


def _split(word: str, known: dict[str, Field]) -> tuple[str, str]:
    """The key that a word is for, and its value."""
    if word.startswith(FILE_MARK):
        takers = [name for name, each in known.items() if _takes_files(each)]
        if len(takers) != 1:
            which = f"{' and '.join(takers)} take files" if takers else "no argument takes files"
            raise _InvalidWord(f"{word}: {which}: write KEY={word}")
        return takers[0], word
    key, equals, text = word.partition("=")
    if not equals:
        raise _InvalidWord(f"{word!r} is no KEY=VALUE")
    if key not in known:
        raise _InvalidWord(f"there is no argument {key!r}")
    return key, text


def _takes_files(wanted: Field) -> bool:
    return any(is_file(each) or is_files(each) for each in alternatives(wanted.schema))


def _add(arguments: Arguments, wanted: Field, text: str, read: Read) -> None:
    """Note a value, or one more of a list."""
    value: Any
    many = _items(wanted.schema)
    if _takes_files(wanted) and text.startswith(FILE_MARK):
        value, blob = _file(text.removeprefix(FILE_MARK), read)
        arguments.files.append(blob)
    else:
        if text.startswith(FILE_MARK):
            text = _text(text.removeprefix(FILE_MARK), read)
        whole = _json_list(text) if many is not None else None
        try:
            if many is not None and whole is not None:
                elements = [_element(each, many) for each in whole]
                arguments.args.setdefault(wanted.name, []).extend(elements)
                return
            value = coerce(text, wanted.schema if many is None else many)
        except ValueError as error:
            how = "" if many is None or "," not in text else LIST_HINT.format(name=wanted.name)
            raise _InvalidWord(f"{wanted.name}: {error}{how}") from None
    if many is not None:
        arguments.args.setdefault(wanted.name, []).append(value)
    elif wanted.name in arguments.args:
        raise _InvalidWord(f"{wanted.name} is given twice and takes one value")
    else:
        arguments.args[wanted.name] = value


def _items(schema: Schema) -> Schema | None:
    """What the elements may be where a value may be a list; None where it may not."""
    for each in alternatives(schema):
        if each.get("type") == "array":
            items: Schema = each.get("items", {})
            return items
    return None


def _json_list(text: str) -> list[Any] | None:
    """A whole list, written as JSON."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = _loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _element(value: Any, schema: Schema) -> Any:
    """An element of a list that was written as JSON.

    Raises:
        ValueError: it is not what the schema wants.
    """
    if isinstance(value, str) and "string" in types(schema):
        return value
    return coerce(json.dumps(value), schema)


def _check_list(name: str, value: Any, schema: Schema) -> None:
    """Refuse lists that are shorter or longer than they may be, or name something twice."""
    if not isinstance(value, list):
        return
    for each in alternatives(schema):
        if len(value) < (least := each.get("minItems", 0)):
            raise _InvalidWord(f"{name}: {len(value)} given, at least {least} wanted")
        if len(value) > (most := each.get("maxItems", len(value))):
            raise _InvalidWord(f"{name}: {len(value)} given, at most {most} taken")
        if each.get("uniqueItems") and any(value.count(item) > 1 for item in value):
            raise _InvalidWord(f"{name}: each may be given once")


def coerce(text: str, schema: Schema) -> Any:
    """A value from what was typed: JSON where the schema wants something else than a string.

    Raises:
        ValueError: it can't be what the schema wants.
    """
    allowed = types(schema)
    value: Any = text
    if allowed != {"string"}:
        try:
            parsed = _loads(text)
        except ValueError:
            if allowed and "string" not in allowed:
                raise ValueError(f"{text!r} is no {type_of(schema)}") from None
        else:
            if not allowed or _is_of(parsed, allowed):
                value = parsed
            elif "string" not in allowed:
                raise ValueError(f"{text} is no {type_of(schema)}")
    choices = [choice for each in alternatives(schema) for choice in each.get("enum", [])]
    if choices and value not in choices:
        raise ValueError(f"{text!r} is none of {', '.join(map(json.dumps, choices))}")
    if isinstance(value, (int, float)) and (limit := _limit_missed(value, schema)):
        raise ValueError(f"{text} is not {limit}")
    return value


def _limit_missed(value: float, schema: Schema) -> str:
    """The limit that keeps a number from being any of what is allowed; empty where none does."""
    missed = [
        next(
            (
                f"{words} {each[key]}"
                for key, (words, holds) in LIMITS.items()
                if key in each and not holds(value, each[key])
            ),
            "",
        )
        for each in alternatives(schema)
        if types(each) & NUMERIC
    ]
    return missed[0] if missed and all(missed) else ""


def _loads(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


_PYTHON: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def _is_of(value: object, allowed: set[str]) -> bool:
    """Whether a JSON value has one of the types."""
    if isinstance(value, bool):
        return "boolean" in allowed
    return any(isinstance(value, _PYTHON.get(name, ())) for name in allowed)


def _file(path: str, read: Read) -> tuple[dict[str, Any], Blob]:
    """A file as an argument, and its bytes."""
    from icebus.schemas.files import MAX_FILE_SIZE, Blob, File

    data = _read(path, read)
    if len(data) > MAX_FILE_SIZE:
        raise _InvalidWord(
            f"{path}: {len(data):,} bytes; the bus carries files of {MAX_FILE_SIZE:,}"
        )
    blob = Blob.of(data)
    file = File(name=PurePath(path).name, sha256=blob.sha256)
    return file.model_dump(mode="json", exclude_none=True), blob


def _text(path: str, read: Read) -> str:
    try:
        return _read(path, read).decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise _InvalidWord(f"{path} is no text, and no argument of this name takes files") from None


def _read(path: str, read: Read) -> bytes:
    try:
        return read(path)
    except OSError as error:
        raise _InvalidWord(f"{path}: {error.strerror}") from None
