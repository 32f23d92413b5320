"""docs/deploy.md: what it says to do works, and what it says will be seen is what programs say."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlmodel import delete, select

from icebus.broker.tls.authority import Authority
from icebus.bus import BrokerAddress
from icebus.client import PulseCountClient
from icebus.control.store.database import Database
from icebus.control.store.tables import DeviceRow
from icebus.schemas.errors import IcebusError

if TYPE_CHECKING:
    from tests.deploy.conftest import StartProgram
    from tests.postgresql import PostgresServer

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()
COMPONENTS = ("broker", "client", "control", "worker")
SERVICES = sorted(path for name in COMPONENTS for path in ROOT.glob(f"{name}/systemd/*.service"))
BACKUPS = [path for path in SERVICES if path.stem.endswith("-backup")]
UNITS = [path for path in SERVICES if path not in BACKUPS]
USB_UNIT = ROOT / "worker" / "systemd" / "icebus-worker-usb.service"
TIMEOUT = 60.0
CIRCUIT = ROOT / "examples" / "circuits" / "pulse_2khz.bin"

Eventually = Callable[[Callable[[], bool], str], None]


def shown(beginning: str) -> list[str]:
    """The commands that the document shows."""
    joined = DOCUMENT.replace("\\\n", " ")
    return [
        line.removeprefix("$ ") for line in joined.splitlines() if line.startswith(f"$ {beginning}")
    ]


def section(title: str) -> str:
    return DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


# --- containers -----------------------------------------------------------------------------------


def test_given_compose_then_its_variables_are_those_of_the_document() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "compose.yaml").read_text()))
    table = dict(re.findall(r"^\| `(ICEBUS_\w+)` \| `([^`]+)` \|", DOCUMENT, re.MULTILINE))

    assert table == used


def test_given_the_compose_commands_then_their_services_and_profiles_exist(
    compose: dict[str, Any],
) -> None:
    commands = [shlex.split(each.partition("<")[0]) for each in shown("docker compose")]
    assert len(commands) >= 8
    for words in commands:
        if "--profile" in words:
            profile = words[words.index("--profile") + 1]
            assert any(profile in s.get("profiles", []) for s in compose["services"].values())
        for verb in {"exec", "stop", "start"} & set(words):
            arguments = [word for word in words[words.index(verb) + 1 :] if word != "-T"]
            assert arguments[0] in compose["services"], words


def test_given_the_backup_commands_then_what_was_saved_comes_back(
    postgresql: PostgresServer,
) -> None:
    [save] = [each for each in shown("docker compose exec") if "pg_dump" in each]
    [empty, restore] = [each for each in shown("docker compose exec") if "psql" in each]
    # The document's database and the tools' place are those of the container.
    name = postgresql.create()
    environment = {**os.environ, "PGHOST": str(postgresql.directory)}

    def run(line: str, **streams: Any) -> subprocess.CompletedProcess[str]:
        words = shlex.split(re.split(r"[<>]", line)[0])
        argv = [name if word == "icebus" else word for word in words[words.index("database") + 1 :]]
        done = subprocess.run(argv, env=environment, text=True, capture_output=True, **streams)
        assert done.returncode == 0, done.stderr
        return done

    database = Database(postgresql.url(name))
    database.migrate()
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", generation=7, report={}))
    database.close()
    saved = run(save).stdout
    with database.transaction() as session:
        session.execute(delete(DeviceRow))
    database.close()

    run(empty)
    run(restore, input=saved)

    database.migrate()
    with database.transaction() as session:
        assert session.exec(select(DeviceRow.generation)).all() == [7]
    database.close()


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("mosquitto")
def test_given_a_certificate_of_the_lab_then_the_broker_takes_it_as_shown(
    tmp_path: Path,
    free_port: Callable[[], int],
    start_program: StartProgram,
    eventually: Eventually,
) -> None:
    root = Authority.create()
    made = Authority(root.certificate, root.key).for_broker(["localhost"])
    for name, text in (
        ("farm.pem", made.certificate),
        ("farm.key", made.key),
        ("lab-root.pem", root.certificate),
    ):
        (tmp_path / name).write_text(text)
    [line] = [each for each in shown("icebus-broker init") if "--ca" in each]
    words = [
        str(tmp_path / word) if word.endswith((".pem", ".key")) else word
        for word in shlex.split(line)
    ]
    directory = str(tmp_path / "broker")
    words[words.index("-d") + 1] = directory
    ports = ["--port", str(free_port()), "--component-port", str(free_port())]
    start_program.run([*words, *ports, "--host", "localhost"], {})
    alice = str(tmp_path / "alice.json")
    start_program.run(
        ["icebus-broker", "add", "alice", "--role", "user", "-o", alice, "-d", directory], {}
    )
    start_program(["icebus-broker", "run", "-d", directory], {})
    address = BrokerAddress.parse(str(tmp_path / "alice.json"))
    assert address.ca == root.certificate

    def answer(url: str, **more: str) -> str:
        return start_program.run([sys.executable, "-c", CONNECT], {"ICEBUS_BROKER": url, **more})

    eventually(lambda: "connected" in answer(str(tmp_path / "alice.json")), "it to listen")
    assert "connected" not in answer(address.url())
    assert "connected" in answer(address.url(), SSL_CERT_FILE=str(tmp_path / "lab-root.pem"))


CONNECT = """
import os
from icebus.bus import BrokerAddress, Bus
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
bus = Bus(BrokerAddress.parse(os.environ["ICEBUS_BROKER"]), "test")
try:
    bus.connect(Deadline.after(1))
    print("connected")
except IcebusError as error:
    print(error.message)
bus.close(Deadline.after(1))
"""
"""Anybody who connects, and what they would be told."""


# --- systemd --------------------------------------------------------------------------------------


class Unit:
    """A unit file, with the paths of this machine instead of a lab's."""

    def __init__(self, path: Path, here: Callable[[str], str]) -> None:
        self.name = path.stem
        self.lines = here(path.read_text()).splitlines()

    def values(self, key: str) -> list[str]:
        return [line.partition("=")[2] for line in self.lines if line.startswith(f"{key}=")]

    @property
    def environment(self) -> dict[str, str]:
        pairs = [value.partition("=") for value in self.values("Environment")]
        for name in self.values("EnvironmentFile"):
            file = Path(name.removeprefix("-"))
            if not name.startswith("-") or file.exists():
                pairs += [line.partition("=") for line in file.read_text().splitlines()]
        # What systemd hands to the service is read where it comes from.
        given = {
            f"%d/{name}": file
            for name, _, file in (each.partition(":") for each in self.values("LoadCredential"))
        }
        return {name: given.get(value, value) for name, _, value in pairs}

    @property
    def command(self) -> list[str]:
        [line] = self.values("ExecStart")
        environment = self.environment
        return [
            environment[word[1:]] if word.startswith("$") else word for word in shlex.split(line)
        ]


@pytest.mark.usefixtures("mosquitto")
def test_given_the_steps_for_systemd_then_the_units_make_a_farm(
    tmp_path: Path,
    free_port: Callable[[], int],
    start_program: StartProgram,
    eventually: Eventually,
) -> None:
    ports = f"--port {free_port()} --component-port {free_port()}"
    page = free_port()

    def here(text: str) -> str:
        text = re.sub(r"(?<![\w.])/(?=(?:var/lib/icebus|etc/icebus)\b)", f"{tmp_path}/", text)
        text = text.replace("/opt/icebus/bin/", "").replace("--listen 0.0.0.0", ports)
        text = text.replace("127.0.0.1:8470", f"127.0.0.1:{page}")
        return text.replace("farm.example.org", "localhost")

    (tmp_path / "etc" / "icebus").mkdir(parents=True)
    (tmp_path / "etc" / "icebus" / "rack.env").write_text("ICEBUS_BOARDS=1\n")
    for line in shown("sudo -u icebus-broker /opt"):
        start_program.run(shlex.split(here(line))[3:], {})
    for line in shown("sudo install -m 600"):
        start_program.run(shlex.split(here(line))[1:], {})

    units = [Unit(path, here) for path in UNITS if path != USB_UNIT]
    for unit in units:
        start_program(unit.command, unit.environment)

    alice = tmp_path / "var/lib/icebus-broker/alice.json"
    with PulseCountClient(farm=alice, timeout=TIMEOUT) as client:

        def available() -> bool:
            try:
                return len(client.available(timeout=5)) == 1
            except IcebusError:
                return False

        eventually(available, "the farm of the units to offer its board")
        with client.reserve(1) as boards:
            [result] = boards.evaluate([CIRCUIT])
    assert 1998 <= result.pulses <= 2000
    with urllib.request.urlopen(f"http://127.0.0.1:{page}/farm.json", timeout=TIMEOUT) as told:
        assert json.load(told)["farm"] == "local"
    listing = start_program.run(
        ["icebus-broker", "list", "-d", str(tmp_path / "var/lib/icebus-broker")], {}
    )
    assert "main" in listing
    checks = [
        line
        for program in ("broker", "control", "worker", "rack")
        for line in shown(f"icebus-{program} health")
    ]
    assert len(checks) == 4
    for line in checks:
        said = start_program.run(shlex.split(here(line)), {})
        assert said.startswith("OK "), said


def test_given_the_units_then_they_are_those_that_the_document_enables() -> None:
    enabled = {word for line in shown("sudo systemctl enable") for word in line.split()[4:]}

    assert {path.stem for path in UNITS} | {f"{path.stem}.timer" for path in BACKUPS} == enabled
    for path in BACKUPS:
        timer = path.with_suffix(".timer").read_text()
        assert "Persistent=yes" in timer
        assert "OnCalendar=" in timer


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_given_a_unit_then_systemd_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    # Whether programs are installed here is not the question.
    copy.write_text(re.sub(r"/opt/icebus/bin/\S+", "/bin/true", path.read_text()))
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("systemd is not installed")

    said = [line for line in done.stderr.splitlines() if path.name in line]
    assert said == []


EXPOSURE = {"icebus-rack": 1.1}
"""The highest that ``systemd-analyze security`` may find of a unit; 1.7 of those not named."""


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_given_a_unit_then_it_is_exposed_no_more_than_it_was(path: Path) -> None:
    try:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("systemd is not installed")
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd is older than 250, which judges files")

    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE.get(path.stem, 1.7)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_given_a_unit_then_systemd_knows_whether_it_serves_and_never_gives_up(path: Path) -> None:
    unit = Unit(path, str)

    assert unit.values("Type") == ["notify"]
    assert unit.values("NotifyAccess") == ["main"]
    assert int(unit.values("WatchdogSec")[0]) >= 30
    assert unit.values("StartLimitIntervalSec") == ["0"]
    assert unit.values("Restart") == ["on-failure"]
    assert "AF_UNIX" in unit.values("RestrictAddressFamilies")[0], "for systemd's own socket"
    lines = unit.lines
    assert lines.index("StartLimitIntervalSec=0") < lines.index("[Service]"), "it is of the unit"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_given_a_unit_then_it_is_not_root_and_its_folder_is_its_own(path: Path) -> None:
    unit = Unit(path, str)

    [user] = unit.values("User")
    assert user in {"icebus-broker", "icebus-control", "icebus-dashboard", "icebus-worker"}
    assert unit.values("StateDirectoryMode") == ["0700"]
    assert unit.values("NoNewPrivileges") == ["yes"]
    assert unit.values("ProtectSystem") == ["strict"]
    assert not [value for value in unit.values("Environment") if "mqtt" in value]


def test_given_the_unit_for_boards_then_it_has_the_group_of_the_rules_and_no_other_device() -> None:
    unit = Unit(USB_UNIT, str)
    rules = (ROOT / "worker" / "udev" / "70-icebus.rules").read_text()

    assert unit.values("SupplementaryGroups") == re.findall(r'GROUP="(\w+)"', rules)
    assert unit.values("DevicePolicy") == ["closed"]
    assert unit.values("DeviceAllow") == ["char-ttyACM rw", "char-usb_device rw"]
    assert "AF_NETLINK" in unit.values("RestrictAddressFamilies")[0]
    assert unit.values("Conflicts") == ["icebus-worker.service"]


# --- backups under systemd ------------------------------------------------------------------------


def test_given_the_unit_and_the_steps_when_control_is_saved_and_restored_then_it_is_as_it_was(
    tmp_path: Path, start_program: StartProgram
) -> None:
    def here(text: str) -> str:
        text = re.sub(r"(?<![\w.])/(?=(?:var/lib/icebus|etc/icebus)\b)", f"{tmp_path}/", text)
        return text.replace("/opt/icebus/bin/", "")

    [path] = [each for each in BACKUPS if "control" in each.stem]
    unit = Unit(path, here)
    database = Database(unit.environment["ICEBUS_DATABASE"])
    database.migrate()
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", generation=7, report={}))
    said = start_program.run(unit.command, unit.environment)
    made = said.partition(": ")[0]
    with database.transaction() as session:
        session.execute(delete(DeviceRow))
    database.close()

    steps = [
        here(line).replace(re.findall(r"\S+/control-\S+\.db", here(line))[0], made)
        for line in shown("sudo -u icebus-control")
    ]
    assert len(steps) == 2
    for step in steps:
        words = shlex.split(step)[3:]
        environment = dict(word.split("=", 1) for word in words if "=" in word)
        start_program.run([word for word in words if "=" not in word], environment)

    with database.transaction() as session:
        assert session.exec(select(DeviceRow.generation)).all() == [7]
    database.close()


def test_given_the_unit_and_the_steps_when_the_broker_is_saved_then_people_come_back(
    tmp_path: Path, start_program: StartProgram
) -> None:
    directory = tmp_path / "broker"
    start_program.run(["icebus-broker", "init", "-d", str(directory)], {})
    start_program.run(
        ["icebus-broker", "add", "wall", "--role", "observer", "-d", str(directory)], {}
    )
    known = (directory / "principals.json").read_bytes()
    [path] = [each for each in BACKUPS if "broker" in each.stem]
    [line] = Unit(path, str).values("ExecStart")
    save = shlex.split(line.replace("%%", "%"))

    for _ in range(2):
        subprocess.run(save, cwd=directory, check=True)

    [saved] = (directory / "backups").iterdir()
    assert re.fullmatch(r"broker-[1-7]\.tar", saved.name)
    (directory / "principals.json").unlink()
    [restore] = shown("sudo -u icebus-broker tar")
    words = shlex.split(restore.replace("/var/lib/icebus-broker/backups/broker-6.tar", str(saved)))
    words = [word.replace("/var/lib/icebus-broker", str(directory)) for word in words[3:]]
    subprocess.run(words, check=True)
    assert (directory / "principals.json").read_bytes() == known


# --- what people see ------------------------------------------------------------------------------


def test_given_the_table_of_troubles_then_programs_say_these_words() -> None:
    sources = [
        path
        for name in ("schemas", "broker", "control", "worker", "client")
        for path in (ROOT / name).rglob("*")
        if "node_modules" not in path.parts
        and (path.suffix == ".py" or (path.is_file() and not path.suffix))
    ]
    # Texts that go on in the next line of a source are one text.
    everything = "\n".join(re.sub(r'"\n\s*f?"', "", path.read_text()) for path in sources)
    quoted = re.findall(r"^\| `([^`]+)`", section("When something is wrong"), re.MULTILINE)

    assert len(quoted) >= 8
    for text in quoted:
        for part in text.split("…"):
            assert part.strip() in everything, text


def test_given_the_topics_to_watch_then_they_exist() -> None:
    from icebus.schemas.topics import TOPICS

    watched = re.findall(r"^\| `((?:control|worker)/[^`]+)`", section("Watching it"), re.MULTILINE)
    known = {topic.template for topic in TOPICS.values()}

    assert len(watched) == 6
    for topic in watched:
        assert topic in known or re.sub(r"/main/", "/{control}/", topic) in known
