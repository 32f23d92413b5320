"""What the documents say is so: commands exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.docs import generated

from icebus.broker.cli.app import app as broker_app
from icebus.client.cli.app import app
from icebus.control.cli import app as control_app
from icebus.rack.cli import app as rack_app
from icebus.worker.cli import app as worker_app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
    if not path.parent.name.startswith(".")  # a tool's folder, not ours
]
PROGRAMS = ("icebus", "icebus-broker", "icebus-control", "icebus-worker", "icebus-rack")
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
        "icebus": typer.main.get_command(app),
        "icebus-broker": typer.main.get_command(broker_app),
        "icebus-control": typer.main.get_command(control_app),
        "icebus-worker": typer.main.get_command(worker_app),
        "icebus-rack": typer.main.get_command(rack_app),
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
        end = words.index("--") if "--" in words else len(words)
        for word in words[:end]:
            if word.startswith("-"):
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


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_given_a_document_then_the_places_that_it_names_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    named = re.findall(
        r"`((?:schemas|broker|control|worker|client|tests|bench|examples)/[^`*{ ]+)`", text
    )
    assert len(named) > 3
    assert [place for place in named if not (ROOT / place).exists()] == []
