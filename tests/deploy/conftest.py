"""The images and compose.yaml without a container engine: what they would run, run here.

An image's build stage is carried out in a folder, with the files that it copies and no others. Its
programs run as processes, with its environment, its entry point and its health check; the paths of
a container stand for folders, and the broker's address for a free port on loopback.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from icebus.broker.mosquitto import find_program
from icebus.schemas.errors import ProgramMissing

if TYPE_CHECKING:
    from tests.postgresql import PostgresServer

ROOT = Path(__file__).parents[2]
COMPONENTS = ("broker", "control", "client", "worker")

TIMEOUT = 120.0
"""Seconds within which anything here happens on a busy machine."""

_CONTAINER_PATH = re.compile(
    r"(?<![\w.])/(?=(?:opt/icebus|run/credentials|run/postgresql|var/lib/icebus|usr/local/lib/icebus"
    r"|run/secrets)\b)"
)


@dataclass
class Stage:
    """One stage of a Dockerfile: its base, and its instructions in order."""

    base: str
    name: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]

    def words(self, instruction: str) -> list[str]:
        """The words of the last one that is in JSON form; none if there is none."""
        said = self.all(instruction)
        if not said:
            return []
        words: list[str] = json.loads(said[-1][said[-1].index("[") :])
        return words

    @property
    def environment(self) -> dict[str, str]:
        pairs = [pair.partition("=") for text in self.all("ENV") for pair in shlex.split(text)]
        return {name: value for name, _, value in pairs}

    @property
    def copies(self) -> list[tuple[list[str], str]]:
        """Sources in the repository, and where they go."""
        parts = [text.split() for text in self.all("COPY") if not text.startswith("--from")]
        return [(sources, target) for *sources, target in parts]


def read_dockerfile(path: Path) -> list[Stage]:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        instruction, _, text = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = text.partition(" AS ")
            stages.append(Stage(base, name))
        else:
            stages[-1].steps.append((instruction, text.strip()))
    return stages


@pytest.fixture(scope="session")
def dockerfiles() -> dict[str, list[Stage]]:
    """The stages of each component's image: first the one that builds, then the one that runs."""
    return {name: read_dockerfile(ROOT / name / "Dockerfile") for name in COMPONENTS}


def read_compose(text: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A compose file with its variables filled in."""

    def fill(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":-")
        return (variables or {}).get(name, default)

    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{([^}]*)\}", fill, text))
    return document


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """compose.yaml as it is for somebody who sets no variable."""
    return read_compose((ROOT / "compose.yaml").read_text())


def find_uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv" / "bin"))
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("uv is not installed")
    return found


@dataclass(frozen=True)
class Image:
    """What a Dockerfile makes, as far as it is ours.

    Attributes:
        installed: what is in ``/opt/icebus``.
        stage: the last one.
    """

    installed: Path
    stage: Stage


@pytest.fixture(scope="session")
def images(
    dockerfiles: dict[str, list[Stage]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Image]:
    """Every image, built from nothing but what its Dockerfile copies; once for all processes."""
    uv = find_uv()
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "images"
    shared.mkdir(exist_ok=True)
    made = {}
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, (build, last) in dockerfiles.items():
            place = shared / name
            if not (place / "built").exists():
                _build(build, place, uv)
                (place / "built").touch()
            made[name] = Image(place / "opt" / "icebus", last)
    return made


def _build(stage: Stage, place: Path, uv: str) -> None:
    sources = place / "src"
    sources.mkdir(parents=True)
    environment = {
        **_plain_environment(),
        "UV_PROJECT_ENVIRONMENT": str(place) + stage.environment["UV_PROJECT_ENVIRONMENT"],
        "UV_PYTHON": sys.executable,
        "PATH": f"{Path(uv).parent}:{os.environ['PATH']}",
    }
    for instruction, text in stage.steps:
        if instruction == "COPY":
            *names, target = text.split()
            for name in names:
                _copy(ROOT / name, sources / target)
        elif instruction == "RUN" and text.startswith("uv "):
            # What bootstrap has fetched will do; else the network is asked, as an image's would be.
            for offline in ("1", "0"):
                done = subprocess.run(
                    ["sh", "-c", text],
                    cwd=sources,
                    env={**environment, "UV_OFFLINE": offline},
                    capture_output=True,
                    text=True,
                )
                if done.returncode == 0:
                    break
            assert done.returncode == 0, done.stderr


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(
            source, target, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
        return
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _plain_environment() -> dict[str, str]:
    """Ours, without what would lead a program to this checkout or to another farm."""
    ours = ("ICEBUS_", "UV_", "VIRTUAL_ENV", "PYTHON", "XDG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


class Container:
    """A service of compose.yaml as a process.

    Args:
        image: what it runs.
        settings: of the service.
        place: an empty folder of its own.
        volumes: the folder of each volume.
        ports: on loopback: of the broker for people, for components, and without TLS; of the
            dashboard.
    """

    def __init__(
        self,
        image: Image,
        settings: Mapping[str, Any],
        place: Path,
        volumes: Mapping[str, Path],
        ports: tuple[int, int, int, int],
    ) -> None:
        self.image = image
        self.place = place
        self.log = place / "log"
        self._ports = ports
        self._mounts: dict[str, Path] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = settings.get("command", image.stage.words("CMD"))
        place.mkdir()
        for mount in settings["volumes"]:
            volume, target = mount.split(":")[:2]
            self._mounts[target] = volumes[volume]
            (place / target.strip("/")).parent.mkdir(parents=True, exist_ok=True)
            (place / target.strip("/")).symlink_to(volumes[volume])
        for sources, target in image.stage.copies:
            for source in sources:
                self._install(ROOT / source, place / target.strip("/"))
        said = {**image.stage.environment, **settings.get("environment", {})}
        self.environment = {
            **_plain_environment(),
            **{name: self._here(str(value)) for name, value in said.items()},
            "HOME": str(place),
            "PATH": f"{image.installed}/bin:{place}/usr/local/bin:{os.environ['PATH']}:/usr/sbin",
        }

    def _install(self, source: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / source.name
        target.write_text(self._here(source.read_text()))
        target.chmod(source.stat().st_mode)

    def _here(self, text: str) -> str:
        """Words for a container as words for this machine."""
        for target, folder in self._mounts.items():
            text = re.sub(rf"(?<![\w.]){re.escape(target)}(?![\w-])", str(folder), text)
        text = _CONTAINER_PATH.sub(f"{self.place}/", text)
        people, components, plain, dashboard = map(str, self._ports)
        text = text.replace("--listen 0.0.0.0", "--listen 127.0.0.1")
        text = re.sub(r"\b8883\b", people, re.sub(r"\b8884\b", components, text))
        text = re.sub(r"\b1883\b", plain, text)
        text = re.sub(r"\b0\.0\.0\.0:8470\b", f"127.0.0.1:{dashboard}", text)
        return text.replace("1broker:", "1127.0.0.1:")

    def start(self) -> None:
        argv = [
            self._here(word) for word in [*self.image.stage.words("ENTRYPOINT"), *self._command]
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                executable=shutil.which(argv[0], path=self.environment["PATH"]),
                cwd=self.place,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def healthy(self) -> bool:
        """What its health check says."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return self.run(*self.image.stage.words("HEALTHCHECK")).returncode == 0

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """``docker compose exec``."""
        here = [self._here(word) for word in argv]
        return subprocess.run(
            here,
            executable=shutil.which(here[0], path=self.environment["PATH"]),
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def stop(self) -> int:
        """``docker compose stop``: tell the first process, and end the rest with it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(TIMEOUT)


class Stack:
    """The services of compose.yaml, the profile ``virtual`` included."""

    def __init__(self, images: dict[str, Image], server: PostgresServer, place: Path) -> None:
        self.server = server
        self.ports = (free_port(), free_port(), free_port(), free_port())
        self.compose = read_compose((ROOT / "compose.yaml").read_text(), {"ICEBUS_BOARDS": "2"})
        database = self.compose["services"]["database"]
        assert database["command"] == ["postgres", "-c", "listen_addresses="]
        server.create(name=database["environment"]["POSTGRES_DB"])
        self.volumes = {name: place / "volumes" / name for name in self.compose["volumes"]}
        for folder in self.volumes.values():
            folder.mkdir(parents=True, mode=0o700)
        # Nearer than a folder of pytest's: the path of a socket has at most 107 characters.
        self.volumes["database-socket"] = server.directory
        self.containers: dict[str, Container] = {}
        for name, settings in self.compose["services"].items():
            if "build" in settings:
                component = Path(settings["build"]["dockerfile"]).parent.name
                self.containers[name] = Container(
                    images[component], settings, place / name, self.volumes, self.ports
                )

    def up(self) -> None:
        """``docker compose up``: each service once those it depends on are healthy."""
        waiting = dict(self.containers)
        while waiting:
            for name in list(waiting):
                conditions = self.compose["services"][name].get("depends_on", {})
                if not waiting.keys() & conditions.keys():
                    waiting.pop(name).start()
                    self.wait_healthy(name)

    def wait_healthy(self, name: str) -> None:
        wait_until(self.containers[name].healthy, f"{name} to be healthy")

    def restart(self, name: str) -> int:
        """``docker compose restart``; returns the code that it ended with."""
        if name == "database":
            self.server.stop()
            self.server.start()
            return 0
        code = self.containers[name].stop()
        self.containers[name].start()
        return code

    def admit(self, name: str, role: str = "user") -> Path:
        """Let somebody in; returns their credentials file."""
        broker = self.containers["broker"]
        file = broker.place / f"{name}.json"
        done = broker.run("icebus-broker", "add", name, "--role", role, "-o", str(file))
        assert done.returncode == 0, done.stderr
        assert "no broker" not in done.stderr
        return file

    def icebus(self, credentials: Path, *argv: str) -> subprocess.CompletedProcess[str]:
        """The command line, as a person who has installed no more than the client."""
        broker = self.containers["broker"]
        return subprocess.run(
            [broker.image.installed / "bin" / "icebus", *argv],
            env={
                **_plain_environment(),
                "HOME": str(broker.place),
                "ICEBUS_FARM": str(credentials),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def down(self) -> None:
        for container in self.containers.values():
            container.kill()


class StartProgram:
    """Runs our programs with the scripts of this checkout beside them; all end with the test.

    Args:
        place: for their homes and logs.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._running: list[subprocess.Popen[bytes]] = []
        scripts = [ROOT / "broker", Path(sys.executable).parent]
        self._path = f"{':'.join(map(str, scripts))}:{os.environ['PATH']}:/usr/sbin"

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**_plain_environment(), "HOME": str(self._place), "PATH": self._path, **more}

    def __call__(self, argv: list[str], environment: Mapping[str, str]) -> None:
        """Start one."""
        with (self._place / f"{argv[0]}.log").open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    argv,
                    executable=shutil.which(argv[0], path=self._path),
                    env=self._environment(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def run(self, argv: list[str], environment: Mapping[str, str]) -> str:
        """Run one to its end; returns what it said."""
        done = subprocess.run(
            argv,
            executable=shutil.which(argv[0], path=self._path),
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(TIMEOUT)


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[StartProgram]:
    """Starts programs of this checkout."""
    starter = StartProgram(tmp_path)
    yield starter
    starter.stop()


@pytest.fixture(name="free_port")
def choose_port() -> Callable[[], int]:
    """Finds a port on loopback that nobody listens on."""
    return free_port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def stack(
    images: dict[str, Image],
    postgresql: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """The farm of compose.yaml, up; shared by the tests of a module."""
    try:
        find_program("mosquitto")
    except ProgramMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(missing.message)
    made = Stack(images, postgresql, tmp_path_factory.mktemp("stack"))
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool], str], None]:
    """Waits until something holds."""
    return wait_until
