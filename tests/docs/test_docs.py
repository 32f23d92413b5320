"""What the documents say is so: commands exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.docs import command_reference, generated

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
    if not path.parent.name.startswith(".")  # a tool's folder, not ours
]
PROGRAMS = ("icebus", "icebus-broker", "icebus-control", "icebus-worker", "icebus-rack")
BEHIND = ("--", "|", "||", "&&", ";")
"""What stands behind these is another command's."""

UNIT = r"[Ss]econds|[Bb]ytes|[Dd]egrees|[Dd]ays|times|[Pp]art of"
"""How a number that is no count says what it is a number of."""
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The commands of our programs that a document shows."""
    shown = [
        line.removeprefix("$ ").partition("#")[0]
        for block in blocks(text, "console")
        for line in block.splitlines()
        if line.startswith("$ icebus")
    ]
    return [shlex.split(line) for line in shown]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_given_a_document_then_its_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_given_a_document_then_the_scripts_it_names_exist(path: Path) -> None:
    for name in re.findall(r"script/\w+", path.read_text()):
        assert os.access(ROOT / name, os.X_OK), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_given_a_document_then_the_commands_it_shows_exist_with_their_options(
    path: Path,
) -> None:
    groups: dict[str, Any] = {
        name: typer.main.get_command(app) for name, app in command_reference.PROGRAMS.items()
    }
    for program, *words in commands(path.read_text()):
        command = groups[program]
        name = ""
        while hasattr(command, "commands"):
            if command.invoke_without_command and (not words or words[0].startswith("-")):
                break  # the program itself, which has a command besides
            name, *words = words
            if name.startswith("-"):
                assert name in options_of(command), f"{program} {name}"
                del words[0]  # its value
            else:
                command = command.commands[name]
        for word in takewhile(lambda word: word not in BEHIND, words):
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in options_of(command), f"{program} {name} {word}"


def options_of(command: Any) -> set[str]:
    return {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}


def test_given_the_programs_then_each_is_installed_and_in_the_readme() -> None:
    for program in PROGRAMS:
        assert (BIN / program).exists()
        assert f"`{program}`" in README or f"$ {program} " in README


def test_given_the_code_then_what_is_drawn_from_it_is_up_to_date() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    fresh = generated.renew(text)
    assert text == fresh, ".venv/bin/python -m tests.docs.generated docs/architecture.md"
    assert text.count("stateDiagram-v2") == 3


def test_given_the_configuration_of_workers_then_its_keys_are_documented_as_they_are() -> None:
    text = (ROOT / "docs" / "worker.md").read_text()
    assert text == generated.renew(text), ".venv/bin/python -m tests.docs.generated docs/worker.md"


def test_given_the_programs_then_the_reference_of_their_commands_is_up_to_date() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert text == generated.renew(text), ".venv/bin/python -m tests.docs.generated docs/cli.md"


def test_given_a_command_then_all_that_it_takes_says_what_it_is() -> None:
    silent = [f"{path} {each.opts}" for path, each in command_reference.parameters()]
    told = [f"{path} {each.opts}" for path, each in command_reference.parameters() if each.help]
    assert silent == told


def test_given_an_option_that_is_a_measure_then_it_says_its_unit_and_what_holds_without() -> None:
    unclear = []
    for path, each in command_reference.parameters():
        is_duration = each.metavar == "DURATION"
        if each.param_type_name != "option" or not (
            is_duration or "float" in str(each.type_descriptor.annotation)
        ):
            continue
        if not is_duration and not re.search(UNIT, each.help):
            unclear.append(f"{path} {each.opts}: its unit")
        if not command_reference.default_of(each) and not each.required:
            unclear.append(f"{path} {each.opts}: (default: …)")
    assert unclear == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_given_a_document_then_the_places_that_it_names_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    named = re.findall(
        r"`((?:schemas|broker|control|worker|client|tests|bench|examples)/[^`*{ ]+)`", text
    )
    assert len(named) > 3
    assert [place for place in named if not (ROOT / place).exists()] == []
