"""docs/deploy.md: what it says to do works, and what it says will be seen is what programs say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sqlmodel import delete, select

from icebus.client import PulseCountClient
from icebus.control.store.database import Database
from icebus.control.store.tables import DeviceRow
from icebus.schemas.errors import IcebusError

if TYPE_CHECKING:
    from tests.deploy.conftest import StartProgram
    from tests.postgresql import PostgresServer

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()
COMPONENTS = ("broker", "control", "worker")
UNITS = sorted(path for name in COMPONENTS for path in ROOT.glob(f"{name}/systemd/*.service"))
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
    [restore] = [each for each in shown("docker compose exec") if "psql" in each]
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

    run(restore, input=saved)

    database.migrate()
    with database.transaction() as session:
        assert session.exec(select(DeviceRow.generation)).all() == [7]
    database.close()


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a certificate for localhost, its key, and nobody's signature but its own."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", "farm.key", "-out", "farm.pem"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    return tmp_path


@pytest.mark.usefixtures("mosquitto")
def test_given_the_override_for_tls_then_the_broker_listens_with_it_and_certificates_count(
    certificate: Path,
    tmp_path: Path,
    free_port: Callable[[], int],
    start_program: StartProgram,
    eventually: Eventually,
) -> None:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", section("TLS"), re.DOTALL | re.MULTILINE)
    override = yaml.safe_load(block)
    broker = override["services"]["broker"]
    tls, plain = free_port(), free_port()
    assert broker["ports"] == ["8883:8883"]
    settings = {
        name: value.replace("8883 0.0.0.0", f"{tls} 127.0.0.1")
        for name, value in broker["environment"].items()
    }
    for secret in broker["secrets"]:
        file = certificate / Path(override["secrets"][secret]["file"]).name
        settings = {
            name: value.replace(f"/run/secrets/{secret}", str(file))
            for name, value in settings.items()
        }
    environment = {"ICEBUS_BROKER_DIRECTORY": str(tmp_path / "broker"), **settings}
    start_program.run(["icebus-broker", "configure", "--port", str(plain)], environment)
    url = start_program.run(["icebus-broker", "add", "alice", "--role", "user"], environment)
    start_program(["icebus-broker-standing"], environment)

    plainly, securely = url.strip(), url.strip().replace("mqtt://", "mqtts://")
    securely = securely.replace(f":{plain}/", f":{tls}/")

    def answer(url: str, **more: str) -> str:
        return start_program.run([sys.executable, "-c", CONNECT], {"ICEBUS_BROKER": url, **more})

    eventually(lambda: "connected" in answer(plainly), "the plain listener to answer")
    assert "certificate verify failed" in answer(securely)
    assert "connected" in answer(securely, SSL_CERT_FILE=str(certificate / "farm.pem"))


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
        return {name: value for name, _, value in pairs}

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
    port = free_port()

    def here(text: str) -> str:
        text = re.sub(r"(?<![\w.])/(?=(?:var/lib/icebus|etc/icebus)\b)", f"{tmp_path}/", text)
        text = text.replace("/opt/icebus/bin/", "").replace("--listen 0.0.0.0", "")
        return text.replace("--port 1883", f"--port {port}")

    urls = {}
    (tmp_path / "etc" / "icebus").mkdir(parents=True)
    (tmp_path / "etc" / "icebus" / "rack.env").write_text("ICEBUS_BOARDS=1\n")
    for line in shown("sudo -u icebus-broker"):
        argv = shlex.split(here(line))[3:]
        said = start_program.run(argv, {})
        if argv[1] == "add":
            urls[argv[2]] = said.strip()
    for name, who in (("control", "main"), ("worker", "lab1")):
        (tmp_path / f"etc/icebus/{name}.env").write_text(f"ICEBUS_BROKER={urls[who]}\n")

    units = [Unit(path, here) for path in UNITS if path != USB_UNIT]
    for unit in units:
        start_program(unit.command, unit.environment)

    with PulseCountClient(urls["alice"], timeout=TIMEOUT) as client:

        def available() -> bool:
            try:
                return len(client.available(timeout=5)) == 1
            except IcebusError:
                return False

        eventually(available, "the farm of the units to offer its board")
        with client.reserve(1) as boards:
            [result] = boards.evaluate([CIRCUIT])
    assert 1998 <= result.pulses <= 2000
    listing = start_program.run(
        ["icebus-broker", "list", "-d", str(tmp_path / "var/lib/icebus-broker")], {}
    )
    assert "main" in listing


def test_given_the_units_then_they_are_those_that_the_document_enables() -> None:
    enabled = {word for line in shown("sudo systemctl enable") for word in line.split()[4:]}

    assert {path.stem for path in UNITS} == enabled


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
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


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_given_a_unit_then_it_is_not_root_and_its_folder_is_its_own(path: Path) -> None:
    unit = Unit(path, str)

    [user] = unit.values("User")
    assert user in {"icebus-broker", "icebus-control", "icebus-worker"}
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


# --- what people see ------------------------------------------------------------------------------


def test_given_the_table_of_troubles_then_programs_say_these_words() -> None:
    sources = [
        path
        for name in ("schemas", "broker", "control", "worker", "client")
        for path in (ROOT / name).rglob("*")
        if path.suffix == ".py" or (path.is_file() and not path.suffix)
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

    assert len(watched) == 5
    for topic in watched:
        assert topic in known or re.sub(r"/main/", "/{control}/", topic) in known
