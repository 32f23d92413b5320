"""Every command and snippet of the documents, done by a reader: nothing is left out silently."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel
from tests.docs.conftest import Farm
from tests.docs.reader import Reader, Shell, environment_of, quick, run_here, wait_until
from tests.docs.reading import Block, Step, blocks, shape, steps
from tests.packages import install

from icebus.broker.cli.app import main as broker_main
from icebus.client import PulseCountClient
from icebus.client.circuits.tools import PROGRAMS
from icebus.schemas.calls import CallResults
from icebus.schemas.errors import IcebusError
from icebus.schemas.kinds import pulsecount
from icebus.schemas.operations import administration
from icebus.schemas.operations.reservations import EVENTS, OPERATIONS
from icebus.schemas.topics import DEFAULT_ROOT, TOPICS, Topic
from icebus.worker.states import installed_kinds

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CIRCUITS = ROOT / "examples" / "circuits"

READ = "read"

ASKED = {"OPERATION": OPERATIONS, "ADMIN": administration.OPERATIONS}
"""What control can be asked, by the name of the topic."""

DOCUMENTS = {
    "README.md": READ,
    "docs/tutorial.md": READ,
    "docs/icefarm.md": READ,
    "docs/recipes.md": READ,
    "docs/testing.md": READ,
    "docs/notebooks.md": READ,
    "docs/dashboard.md": "has no blocks",
    "docs/topics.md": READ,
    "docs/cli.md": "is drawn from the programs; test_docs.py looks whether its options exist",
    "broker/README.md": READ,
    "docs/deploy.md": "tests/deploy/test_document.py has tests of its own for it",
    "docs/boards.md": "needs a board; tests/deploy/test_boards_document.py tries what does not",
    "docs/firmware.md": "script/firmware and script/emulator download; .ci/run runs them",
    "docs/scale.md": "tests/broker/test_sites.py and test_cli.py run its commands on two brokers; "
    "the other brokers can't be run here",
    "docs/worker.md": "tests/worker/test_configuration.py reads the file that it shows",
    "docs/architecture.md": "has no commands; tests/docs/generated.py draws its tables",
    "docs/faults.md": "script/chaos takes minutes; tests/faults causes the same faults one by one, "
    "and tests/bench runs what it is made of",
    "CONTRIBUTING.md": "its commands are scripts of the repository, which CI runs by .ci/run, and "
    "generators of files in it, whose output tests/schemas and test_docs.py compare",
    "CHANGELOG.md": "has no blocks",
    "SECURITY.md": "has no blocks",
    "bench/README.md": "script/bench takes two minutes; tests/bench runs what it is made of",
    "examples/circuits/README.md": "has no blocks",
    "examples/evolvable/README.md": "has no blocks",
    "tests/fpga/corpus/README.md": "has no blocks",
}
"""What is done with each document: it is read here, or the reason why not."""

ELSEWHERE = {
    r"script/demo": "installs programs on the machine; .ci/run runs it",
    r"script/test": "is what runs this test",
    r"icebus up .* -- python examples/evolve\.py .*": "tests/examples/test_evolve.py does so",
    r"icebus circuit 2k 1\.5MHz": "the tutorial builds two others",
    r"icebus up --boards 2 -- make test": "tests/farm/test_up.py has farms for commands, and the "
    "tutorial one for a kind of its own; each takes 6 s of CPU",
    r"icebus up --boards 1 -- icebus evaluate .*": "likewise",
    r"icebus up --boards 4 -- pytest test_clocks\.py": "likewise",
    r"python examples/home_assistant\.py mqtt:.*": "tests/examples has such a broker",
    r"uv pip install --editable .*": "needs hatchling from the network; its metadata are made here",
}
"""Commands of documents that are read which are not run here, and why."""

PLAIN = {"": "a picture or an output", "mermaid": "a diagram", "text": "an output"}
"""Languages of blocks that nothing is to be done with, unless they stand behind one that runs."""

ENDLESS = (r"icebus watch.*", r"(XDG_CONFIG_HOME=\S.* )?mosquitto_sub (?!.* -C ).*[^&]")
"""Commands that go on until Ctrl-C."""


def read(document: str) -> list[Block]:
    return blocks(document, (ROOT / document).read_text())


def matches(command: str, patterns: Mapping[str, str] | tuple[str, ...]) -> bool:
    command = command.partition("  #")[0].strip()
    return any(re.fullmatch(pattern, command) for pattern in patterns)


def follow(
    document: str, reader: Reader, farm: Farm, special: Mapping[str, Callable[[Step], None]]
) -> None:
    """Do all that a document says, in order.

    Args:
        document: its path.
        special: what to do with commands that match, instead of typing them.
    """
    unused = set(special)
    todo = read(document)
    for number, block in enumerate(todo):
        after = todo[number + 1] if number + 1 < len(todo) else None
        if block.file:
            reader.save(block)
        elif block.language == "python":
            shown = after.text.splitlines() if after and after.language == "text" else []
            reader.execute(block, shown)
        elif block.language == "console":
            for step in steps(block):
                unused -= take(step, reader, farm, special)
        elif block.language == "mqtt":
            assert messages(block)
        elif block.language in ("json", "yaml"):
            assert (json.loads if block.language == "json" else yaml.safe_load)(block.text)
        else:
            assert block.language in PLAIN, f"{block.where}: what is to be done with it?"
    assert not unused, f"{document} does not have {unused}"


def take(
    step: Step, reader: Reader, farm: Farm, special: Mapping[str, Callable[[Step], None]]
) -> set[str]:
    """Do one command; returns which of the special ones it was."""
    for pattern, do in special.items():
        if matches(step.command, (pattern,)):
            do(step)
            return {pattern}
    if matches(step.command, ELSEWHERE):
        return set()
    if matches(step.command, (r"icebus up (?!.* -- ).*",)):
        assert not step.shown or shape(step.shown).fullmatch(farm.told), farm.told
    elif matches(step.command, ENDLESS):
        reader.listen(step)
    else:
        reader.type(step, quick)
    return set()


# --- the documents --------------------------------------------------------------------------------


@pytest.mark.timeout(400)  # three minutes of reading, on a machine that is busy with other things
def test_given_the_tutorial_when_followed_then_all_is_as_it_says(
    farm: Farm, reader: Reader
) -> None:
    def install_package(step: Step) -> None:
        project = reader.folder / step.command.rsplit(maxsplit=1)[1]
        where = install(project, reader.folder / "installed")
        reader.type(Step(step.where, f"export PYTHONPATH='{where}'"))

    def build(step: Step) -> None:
        if all(map(shutil.which, PROGRAMS)):
            reader.type(step)
        else:  # as the tutorial says
            assert not os.environ.get("CI"), f"CI has {', '.join(PROGRAMS)}"
            for name in ("pulse_2khz.bin", "pulse_8khz.bin"):
                shutil.copy(CIRCUITS / name, reader.folder)

    special = {r"uv pip install --editable .*": install_package, r"icebus circuit 2k 8k": build}
    follow("docs/tutorial.md", reader, farm, special)


def test_given_the_readme_when_followed_then_all_is_as_it_says(farm: Farm, reader: Reader) -> None:
    for name in ("pulse_2khz.bin", "pulse_8khz.bin"):
        shutil.copy(CIRCUITS / name, reader.folder)
    shutil.copy(CIRCUITS / "pulse_2khz.bin", reader.folder / "a.bin")

    def call(step: Step) -> None:
        with PulseCountClient() as client:
            serial = client.reservations()[0].devices[0].serial
        reader.type(Step(step.where, step.command.replace("SERIAL", serial)))

    follow("README.md", reader, farm, {r"icebus call SERIAL .*": call})


def test_given_the_page_for_icefarms_users_when_followed_then_all_is_as_it_says(
    farm: Farm, reader: Reader
) -> None:
    for name in ("pulse_2khz.bin", "pulse_8khz.bin"):
        shutil.copy(CIRCUITS / name, reader.folder)
    follow("docs/icefarm.md", reader, farm, {})


def test_given_the_page_on_tests_when_followed_then_all_is_as_it_says(
    farm: Farm, reader: Reader
) -> None:
    follow("docs/testing.md", reader, farm, {})


def test_given_the_recipes_when_followed_then_all_is_as_they_say(
    farm: Farm, reader: Reader
) -> None:
    follow("docs/recipes.md", reader, farm, {})


def test_given_the_page_about_notebooks_when_followed_then_all_is_as_it_says(
    farm: Farm, reader: Reader
) -> None:
    for name in ("pulse_2khz.bin", "pulse_8khz.bin"):
        shutil.copy(CIRCUITS / name, reader.folder)
    follow("docs/notebooks.md", reader, farm, {})


def test_given_the_example_notebook_when_run_in_a_kernel_then_no_cell_fails(farm: Farm) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    path = ROOT / "examples" / "evolve.ipynb"
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    client = nbclient.NotebookClient(
        notebook, timeout=60, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env={**farm.environment, "MPLCONFIGDIR": str(farm.home / "matplotlib")})
    told = str([cell.get("outputs") for cell in notebook.cells])
    assert "extended while the client lives" in told
    assert "12/12" in told
    assert "image/png" in told


def test_given_the_topic_reference_when_followed_then_all_is_as_it_says(
    farm: Farm, reader: Reader
) -> None:
    follow("docs/topics.md", reader, farm, {})


@pytest.mark.usefixtures("mosquitto")
def test_given_the_brokers_document_when_followed_then_its_people_get_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = [each for each in read("broker/README.md") if each.language == "console"]
    home = tmp_path / "home"
    home.mkdir()
    shell = Shell(home, environment_of(home))
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        ports = f"--port {one.getsockname()[1]} --component-port {two.getsockname()[1]}"
    files = {}
    *before, last = steps(block)
    for step in before:
        # Not for the network, and not on a port that somebody may use.
        command = step.command.replace("--listen 0.0.0.0", ports)
        command = command.replace("farm.example.org", "localhost")
        if " add " in command:
            command = command.replace("-o ", f"-o {home}/")
        code, _, err = run_here(broker_main, shell.expand(command), monkeypatch, capsys)
        assert code == 0, f"{step.where}: {err}"
        if " add " in command:
            files[command.split()[2]] = home / f"{command.split()[2]}.json"
    assert set(files) == {"main", "bench", "alice", "wall"}
    running = subprocess.Popen(shell.expand(last.command), env=environment_of(home))
    try:
        wait_until(lambda: answers(files["alice"]), lambda: f"{last.where}: nobody is let in")
        files["alice"].write_text(files["alice"].read_text().replace("//alice:", "//mallory:"))
        assert not answers(files["alice"])
    finally:
        running.terminate()
        running.wait(timeout=20)
        shell.close()


def answers(credentials: Path) -> bool:
    try:
        PulseCountClient(farm=credentials, timeout=5).close()
    except IcebusError:
        return False
    return True


# --- payloads -------------------------------------------------------------------------------------


def messages(block: Block) -> list[tuple[str, Topic, dict[str, str], dict[str, Any]]]:
    """The messages of a block: the name of each one's topic, the topic, its ids, the payload."""
    found = []
    for line in block.text.splitlines():
        topic, _, payload = line.partition(" ")
        relative = topic.removeprefix(f"{DEFAULT_ROOT}/")
        assert relative != topic, line
        [(name, known, ids)] = [
            (name, known, ids)
            for name, known in TOPICS.items()
            if (ids := known.parse(relative)) is not None
        ]
        found.append((name, known, ids, json.loads(payload)))
    return found


@pytest.fixture
def payloads() -> list[tuple[str, Topic, dict[str, str], dict[str, Any]]]:
    """All messages that the topic reference shows."""
    shown = [block for block in read("docs/topics.md") if block.language == "mqtt"]
    return [message for block in shown for message in messages(block)]


def check(model: type[BaseModel], payload: dict[str, Any]) -> None:
    """It is what the model says, and has nothing that the model does not know."""
    dumped = model.model_validate_json(json.dumps(payload)).model_dump(mode="json")
    assert not unknown(payload, dumped), (model.__name__, payload)


def unknown(given: Any, dumped: Any) -> list[str]:
    """The keys that a model has dropped."""
    if isinstance(given, dict):
        return [
            name
            for key, value in given.items()
            for name in ([key] if key not in dumped else unknown(value, dumped[key]))
        ]
    if isinstance(given, list):
        return [name for pair in zip(given, dumped, strict=True) for name in unknown(*pair)]
    return []


def test_given_the_payloads_shown_then_they_are_what_the_models_say(
    payloads: list[tuple[str, Topic, dict[str, str], dict[str, Any]]],
) -> None:
    methods = installed_kinds()[pulsecount.KIND].methods
    answers: dict[str, type[BaseModel]] = {}
    for name, topic, ids, payload in payloads:
        assert topic.model is not None
        check(topic.model, payload)
        if name in ASKED:
            args, answers[payload["id"]] = ASKED[name][ids["operation"]]
            check(args, payload["args"])
        elif name == "CALL":
            jsonschema.validate(payload["args"], methods[ids["method"]].info().args)
            answers[payload["id"]] = CallResults
        elif name == "REPLY" and "ok" in payload:
            check(answers[payload["id"]], payload["ok"])
        elif name == "EVENT":
            check({**EVENTS, **pulsecount.EVENTS}[ids["event"]], payload["data"])


def test_given_the_contract_then_each_topic_operation_and_event_has_a_payload_shown(
    payloads: list[tuple[str, Topic, dict[str, str], dict[str, Any]]],
) -> None:
    assert {name for name, *_ in payloads} == {
        name for name, topic in TOPICS.items() if topic.model is not None
    }
    for asked, operations in ASKED.items():
        assert {ids["operation"] for name, _, ids, _ in payloads if name == asked} == set(
            operations
        )
    assert {ids["event"] for name, _, ids, _ in payloads if name == "EVENT"} == {
        *EVENTS,
        *pulsecount.EVENTS,
    }


# --- nothing is left out --------------------------------------------------------------------------


def test_given_the_repository_then_it_is_known_what_is_done_with_each_document() -> None:
    tracked = {
        str(path.relative_to(ROOT))
        for pattern in ("*.md", "*/*.md", "examples/*/*.md", "tests/**/*.md")
        for path in ROOT.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    assert tracked == set(DOCUMENTS)
    for document, reason in DOCUMENTS.items():
        if reason == "has no blocks":
            assert not read(document), document


@pytest.mark.parametrize("document", [path for path, how in DOCUMENTS.items() if how == READ])
def test_given_a_document_that_is_read_then_every_block_of_it_can_be(document: str) -> None:
    text = (ROOT / document).read_text()
    found = read(document)
    assert len(found) * 2 == len(re.findall(r"^[ \t]*```", text, re.MULTILINE))
    for block in found:
        known = {"console", "python", "json", "yaml", "mqtt", *PLAIN}
        assert block.language in known or block.file, block.where
        if block.language == "console":
            assert steps(block)


def test_given_the_commands_that_are_not_run_then_documents_still_have_them() -> None:
    commands = [
        step.command
        for document, how in DOCUMENTS.items()
        if how == READ
        for block in read(document)
        if block.language == "console"
        for step in steps(block)
    ]
    for pattern in ELSEWHERE:
        assert any(matches(command, (pattern,)) for command in commands), pattern
