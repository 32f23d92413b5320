"""From words of a command line to a method's arguments, and what its schema reads like."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import BaseModel, ConfigDict, Field

from icebus.client.cli.json_schemas.arguments import coerce, parse, parse_named
from icebus.client.cli.json_schemas.signatures import fields, limits_of, signature, type_of, types
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.files import MAX_FILE_SIZE, File, sha256_of
from icebus.schemas.ids import Id
from icebus.schemas.kinds.pulsecount import PulseCountMeasurement
from icebus.schemas.kinds.variance import VarianceMeasurement


class Args(BaseModel):
    """Arguments of all sorts."""

    model_config = ConfigDict(extra="forbid")

    files: list[File]
    name: str
    count: int = 1
    rate: float = 0.5
    fast: bool = False
    batch: Id | None = None
    ids: list[str] = Field(default_factory=list)
    extra: dict[str, Any] = Field(default_factory=dict)
    mode: str | int = "auto"


SCHEMA = Args.model_json_schema()
FILES = {"a.bin": b"A" * 200, "dir/b.bin": b"B", "name.txt": b"from a file\n", "raw": b"\xff\xfe"}


def read(path: str) -> bytes:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(2, "No such file or directory") from None


def args_of(*words: str) -> dict[str, Any]:
    given = parse(["@a.bin", "name=x", *words], "do", SCHEMA, read).args
    Args.model_validate(given)  # what is sent is what the method takes
    return given


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("count=3", "count", 3),
        ("count=-3", "count", -3),
        ("rate=2", "rate", 2),
        ("rate=1e-3", "rate", 0.001),
        ("fast=true", "fast", True),
        ("batch=b1", "batch", "b1"),
        ("batch=12", "batch", "12"),
        ("batch=null", "batch", None),
        ("ids=a", "ids", ["a"]),
        ("ids=12", "ids", ["12"]),
        ('ids=["a", "b"]', "ids", ["a", "b"]),
        ("ids=[]", "ids", []),
        ('extra={"a": [1]}', "extra", {"a": [1]}),
        ("mode=7", "mode", 7),
        ("mode=slow", "mode", "slow"),
        ("extra=@a.json", "extra", {"from": "file"}),
    ],
)
def test_given_a_word_when_parsed_then_the_value_is_of_the_type_that_the_schema_wants(
    word: str, key: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "a.json", b'{"from": "file"}\n')
    assert args_of(word)[key] == value


@pytest.mark.parametrize("text", ["7", "true", "null", '"x"', "[1]", "a=b", "", " x "])
def test_given_an_argument_that_is_text_when_given_anything_then_it_stays_as_it_is(
    text: str,
) -> None:
    given = parse(["@a.bin", f"name={text}"], "do", SCHEMA, read).args
    assert given["name"] == text


def test_given_files_when_named_bare_or_by_key_then_their_bytes_travel_under_their_hash() -> None:
    given = parse(["@a.bin", "files=@dir/b.bin", "name=@name.txt"], "do", SCHEMA, read)
    first, second = given.args["files"]
    assert (first["name"], second["name"]) == ("a.bin", "b.bin")
    assert [first["sha256"], second["sha256"]] == [blob.sha256 for blob in given.files]
    assert first["sha256"] == sha256_of(FILES["a.bin"])
    assert [blob.read() for blob in given.files] == [FILES["a.bin"], FILES["dir/b.bin"]]
    assert first["id"] != second["id"]
    assert given.args["name"] == "from a file"


def test_given_a_key_repeatedly_when_it_takes_a_list_then_they_are_its_elements() -> None:
    assert args_of("ids=a", 'ids=["b", "c"]', "ids=d")["ids"] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["name=x"], "files is missing"),
        (["@a.bin"], "name is missing"),
        ([], "files, name is missing"),
        (["@a.bin", "name=x", "nmae=y"], "there is no argument 'nmae'"),
        (["@a.bin", "name=x", "word"], "'word' is no KEY=VALUE"),
        (["@a.bin", "name=x", "name=y"], "name is given twice"),
        (["@a.bin", "name=x", "count=many"], "count: 'many' is no integer"),
        (["@a.bin", "name=x", "count=1.5"], "count: 1.5 is no integer"),
        (["@a.bin", "name=x", "count=true"], "count: true is no integer"),
        (["@a.bin", "name=x", "rate=NaN"], "rate: 'NaN' is no number"),
        (["@a.bin", "name=x", "fast=1"], "fast: 1 is no boolean"),
        (["@nowhere", "name=x"], "nowhere: No such file or directory"),
        (["@a.bin", "name=@raw"], "raw is no text"),
        (["@a.bin", "name=x", "extra=" + "[" * 100_000], "extra"),
    ],
)
def test_given_a_mistake_when_parsed_then_the_error_shows_how_the_method_is_called(
    words: list[str], problem: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(words, "do", SCHEMA, read)
    assert problem in caught.value.message
    assert "call it as do(files: [file], name: string, count: integer = 1" in caught.value.message


def test_given_a_file_that_is_too_large_when_read_then_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(FILES, "big", bytes(MAX_FILE_SIZE + 1))
    with pytest.raises(InvalidRequest, match="big"):
        parse(["@big", "name=x"], "do", SCHEMA, read)


def test_given_a_bare_file_when_no_argument_or_two_take_files_then_it_has_to_be_named() -> None:
    class Two(BaseModel):
        first: File
        second: File | None = None

    with pytest.raises(InvalidRequest, match=r"first and second take files: write KEY=@a\.bin"):
        parse(["@a.bin"], "do", Two.model_json_schema(), read)
    with pytest.raises(InvalidRequest, match="no argument takes files"):
        parse(["@a.bin"], "do", {"properties": {}}, read)
    given = parse(["first=@a.bin", "second=@dir/b.bin"], "do", Two.model_json_schema(), read)
    assert given.args["second"]["name"] == "b.bin"
    with pytest.raises(InvalidRequest, match="first is given twice"):
        parse(["first=@a.bin", "first=@a.bin"], "do", Two.model_json_schema(), read)


def test_given_choices_when_another_value_is_given_then_they_are_told() -> None:
    schema = {"enum": ["fast", "slow", 3]}
    assert coerce("slow", schema) == "slow"
    assert coerce("3", schema) == 3
    with pytest.raises(ValueError, match='"fast", "slow", 3'):
        coerce("medium", schema)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
def test_given_any_json_when_anything_is_wanted_then_it_arrives_as_it_was(value: object) -> None:
    assert coerce(json.dumps(value), {}) == value


@given(st.text(), st.sampled_from(["boolean", "integer", "number", "null", "array", "object"]))
def test_given_any_text_when_something_else_is_wanted_then_it_is_that_or_refused(
    text: str, wanted: str
) -> None:
    with contextlib.suppress(ValueError):
        assert not isinstance(coerce(text, {"type": wanted}), str)


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "string"}, "string"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer | null"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"type": "array", "items": {"type": "number"}}, "[number]"),
        ({"type": "array"}, "[any]"),
        ({"const": 3}, "3"),
        ({"enum": ["a", 1]}, '"a" | 1'),
        ({"type": "string", "format": "date-time"}, "date-time"),
        ({}, "any"),
    ],
)
def test_given_a_schema_when_shown_then_it_is_a_few_words(
    schema: dict[str, Any], shown: str
) -> None:
    assert type_of(schema) == shown


def test_given_a_schema_that_refers_to_itself_when_read_then_that_ends() -> None:
    schema = {
        "$defs": {"Tree": {"properties": {"left": {"$ref": "#/$defs/Tree"}}, "type": "object"}},
        "properties": {"tree": {"$ref": "#/$defs/Tree"}, "odd": True},
        "required": ["tree"],
    }
    tree, odd = fields(schema)
    assert (tree.required, types(tree.schema), types(odd.schema)) == (True, {"object"}, set())
    assert signature("grow", schema) == "grow(tree: object, odd: any)"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "string"}, ""),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1.5}, "above 0, at most 1.5"),
        ({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, "at least 1"),
        ({"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, "at least 0"),
    ],
)
def test_given_a_number_s_schema_when_its_limits_are_told_then_it_is_in_words(
    schema: dict[str, Any], told: str
) -> None:
    assert limits_of(schema) == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pins=[99]"], "pins: 99 is not at most 48"),
        (["pins=[27", "25]"], "pins: '[27' is no integer"),
        (["pins=27,25"], "give pins=… for each, or pins=[…, …]"),
        (["pins=[]"], "pins: 0 given, at least 1 wanted"),
        (["pins=[1, 2, 3, 4, 5]"], "pins: 5 given, at most 4 taken"),
        (["pins=1", "pins=2", "pins=[3, 4, 5]"], "pins: 5 given, at most 4 taken"),
        (["pins=27", "pins=27"], "pins: each may be given once"),
        (['pins=["a"]'], 'pins: "a" is no integer'),
        (["pins=[[27]]"], "pins: [27] is no integer"),
    ],
)
def test_given_pins_that_no_board_can_count_when_parsed_then_that_is_told_before_any_board_is_asked(
    words: list[str], told: str
) -> None:
    schema = PulseCountMeasurement.model_json_schema()
    with pytest.raises(InvalidRequest) as error:
        parse_named(words, "pulsecount", schema)
    assert told in str(error.value)


@pytest.mark.parametrize("word", ["input=9", "input=-1"])
def test_given_a_limit_of_what_may_also_be_null_when_missed_then_that_is_told(word: str) -> None:
    schema = VarianceMeasurement.model_json_schema()
    with pytest.raises(InvalidRequest, match=r"input: -?\d is not at"):
        parse_named([word], "variance", schema)
