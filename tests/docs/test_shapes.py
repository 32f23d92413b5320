"""How documents are taken apart, and when an output is as they show it."""

from __future__ import annotations

import pytest
from tests.docs.reading import (
    Block,
    adapt,
    blocks,
    is_plain,
    learn,
    learn_in_any_order,
    shape,
    steps,
)


def console(text: str) -> Block:
    return Block("a.md", 1, "console", text)


def test_given_a_document_when_taken_apart_then_each_block_knows_its_line_and_its_file() -> None:
    text = "a\n\n```python\n# b/c.py\nx = 1\n```\n- d\n\n  ```console\n  $ e\n  ```\n"
    first, second = blocks("a.md", text)
    assert (first.where, first.language, first.file) == ("a.md:3", "python", "b/c.py")
    assert (second.where, second.text, second.file) == ("a.md:9", "$ e\n", "")


def test_given_a_console_when_taken_apart_then_commands_have_their_lines_and_outputs() -> None:
    block = console("$ a 'b\n  c' \\\n d\ne\n\n$ f  # it's so\n$ g\n")
    assert [(step.command, step.shown) for step in steps(block)] == [
        ("a 'b\n  c' \\\n d", ("e",)),
        ("f  # it's so", ()),
        ("g", ()),
    ]


@pytest.mark.parametrize("text", ["out\n$ a\n", "$ a 'b\n"])
def test_given_what_is_no_console_when_taken_apart_then_its_line_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"a\.md:2"):
        steps(console(text))


@pytest.mark.parametrize(
    ("command", "plain"),
    [
        ("icebus evaluate -n 2 *.bin  # all", True),
        ("icebus call S evaluate @a.bin x='[1]'", True),
        ("icebus devices | head", False),
        ("icebus devices > a", False),
        ("icebus reserve; echo", False),
        ("a=$(icebus profile)", False),
        ("A=1 icebus devices", False),
    ],
)
def test_given_a_command_then_it_is_known_whether_a_shell_is_needed(
    command: str, plain: bool
) -> None:
    assert is_plain(command) is plain


@pytest.mark.parametrize(
    ("shown", "output", "alike"),
    [
        (["A   B", "1998  yes"], "A B\n7    yes  \n", True),
        (["1998  yes"], "1998  no\n", False),
        (["LEFT 1h59m"], "LEFT 2h\n", True),
        (["a …, b"], "a x y, b\n", True),
        (["a", "…", "b"], "a\nb\n", True),
        (["a", "…", "b"], "a\n1\n2\nb\n", True),
        (["a", "b"], "a\nc\nb\n", False),
        (["E6616407E308B9E2"], "E6616407E345BAED\n", True),
        (["E6616407E308B9E2"], "e6616407e345baed\n", False),
        (["took 0.1 s"], "took 5e-05 s\n", True),
    ],
)
def test_given_an_output_shown_then_only_what_varies_may_differ(
    shown: list[str], output: str, alike: bool
) -> None:
    assert (shape(shown).fullmatch(output) is not None) is alike


def test_given_ids_in_an_output_then_they_stand_for_the_documents_in_what_follows() -> None:
    shown = ["d3e18f07b12f7fa1 on E6616407E308B9E2", "…", "cut: a341ce20bb07ed53…"]
    found = shape(shown).fullmatch("0123456789abcdef on E6616407E345BAED\ncut: x1\n")
    assert found is None
    found = shape(shown).fullmatch(
        "0123456789abcdef on E6616407E345BAED\ncut: a341ce20bb07ed5399\n"
    )
    assert found is not None
    ids = dict(learn(shown, found))
    assert adapt("icebus release d3e18f07b12f7fa1", ids) == "icebus release 0123456789abcdef"
    assert adapt("icebus call E6616407E308B9E2 x", ids) == "icebus call E6616407E345BAED x"


@pytest.mark.parametrize(
    ("output", "ids"),
    [
        ("b\nd of E6616407E345BAED\n", {"E6616407E308B9E2": "E6616407E345BAED"}),
        ("d of E6616407E345BAED\nc\nb\n", {"E6616407E308B9E2": "E6616407E345BAED"}),
        ("d of E6616407E345BAED\nc\n", None),
        ("d of E6616407E345BAED\nb", None),
    ],
)
def test_given_what_a_subscriber_is_shown_then_its_lines_may_come_in_any_order(
    output: str, ids: dict[str, str] | None
) -> None:
    assert learn_in_any_order(["d of E6616407E308B9E2", "…", "b"], output) == ids
