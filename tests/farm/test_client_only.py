"""icebus without its extras: each program names the extra that it lacks, and how to install it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from icebus.schemas.programs.installation import EXTRAS

ROOT = Path(__file__).parents[2]
BITSTREAM = ROOT / "examples" / "circuits" / "pulse_2khz.bin"

Run = Callable[..., subprocess.CompletedProcess[str]]


def _closure(name: str, found: dict[str, Distribution]) -> None:
    """Whatever a package requires without extras of icebus's."""
    installed = distribution(name)
    for text in installed.requires or ():
        each = Requirement(text)
        if each.name not in found and (each.marker is None or each.marker.evaluate({"extra": ""})):
            found[each.name] = distribution(each.name)
            _closure(each.name, found)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment into which the wheel was installed; what it requires is copied from ours."""
    place = tmp_path_factory.mktemp("client-only")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = place.glob("*.whl")
    made = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    [packages] = made.glob("lib/python*/site-packages")
    found: dict[str, Distribution] = {}
    _closure("icebus", found)
    for each in found.values():
        for file in each.files or ():
            source, target = Path(str(file.locate())), packages / str(file)
            if ".." not in file.parts and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv is not None, "script/bootstrap installs it"
    install = [uv, "pip", "install", "--python", str(made / "bin/python"), "--no-deps"]
    subprocess.run([*install, "--offline", str(wheel)], check=True, capture_output=True)
    yield made
    shutil.rmtree(place)


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Runs one of the programs there, in a home of its own."""

    def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(environment / "bin" / program), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return _run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("icebus", "up"), "all"),
        (("icebus", "up", "--emulated", "1"), "all"),
        (("icebus", "up", "--", "true"), "all"),
        (("icebus", "simulate", str(BITSTREAM)), "virtual"),
        (("icebus", "evaluate", "--plot", "x.png", str(BITSTREAM)), "plot"),
        (("icebus", "map", "--plot", "x.png", str(BITSTREAM)), "plot"),
        (("icebus", "results", "--plot", "x.png"), "plot"),
        (("icebus-worker",), "worker"),
        (("icebus-worker", "--help"), "worker"),
        (("icebus-worker", "--check-config"), "worker"),
        (("icebus-control",), "control"),
        (("icebus-control", "--help"), "control"),
        (("icebus-broker", "init", "-d", "broker", "--host", "localhost"), "broker"),
        (("icebus-rack", "run", "-d", "rack"), "virtual"),
    ],
)
def test_given_no_extras_when_a_program_lacks_one_then_it_names_it_and_a_command_that_works(
    run: Run, environment: Path, words: tuple[str, ...], extra: str
) -> None:
    done = run(*words)

    assert done.returncode == (5 if words[0] == "icebus" else 1), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"extra '{extra}'" in done.stderr
    # By the interpreter of this environment, and from where the wheel lies.
    assert str(environment) in done.stderr
    assert f"icebus[{extra}] @ file://" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("icebus", "--help"),
        ("icebus", "--version"),
        ("icebus", "doctor"),
        ("icebus", "profile", "list"),
        ("icebus", "circuit", "--help"),
        ("icebus-broker", "--help"),
        ("icebus-rack", "--help"),
        ("icebus-rack", "list", "-d", "rack"),
        ("icebus", "devices"),
    ],
)
def test_given_no_extras_when_a_command_needs_none_then_it_says_nothing_of_imports(
    run: Run, words: tuple[str, ...]
) -> None:
    done = run(*words)

    assert "Traceback" not in done.stderr
    assert "No module named" not in done.stderr
    assert "extra" not in done.stderr


@pytest.mark.slow
def test_given_no_extras_then_the_packages_of_none_are_there(environment: Path) -> None:
    script = "import sys, importlib.util as u; print([m for m in sys.argv[1:] if u.find_spec(m)])"
    done = subprocess.run(
        [str(environment / "bin/python"), "-c", script, *EXTRAS], capture_output=True, text=True
    )

    assert done.stdout.strip() == "[]"
