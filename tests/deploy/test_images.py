"""The images: what they copy exists, what they install is whole, and nothing runs as root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.deploy.conftest import Image, Stage

ROOT = Path(__file__).parents[2]
COMPONENTS = ("broker", "control", "client", "worker")
PROGRAMS = {
    "broker": ["icebus", "icebus-broker"],
    "control": ["icebus-control"],
    "client": ["icebus"],
    "worker": ["icebus-worker", "icebus-rack"],
}
"""What each image is for."""

Dockerfiles = dict[str, list["Stage"]]


@pytest.mark.parametrize("name", COMPONENTS)
def test_given_a_dockerfile_then_what_it_copies_exists_and_reaches_the_engine(
    dockerfiles: Dockerfiles, name: str
) -> None:
    let_in = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for stage in dockerfiles[name]:
        for sources, target in stage.copies:
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source in let_in, f".dockerignore keeps {source} out"
                if target == "/usr/local/bin/":
                    assert (ROOT / source).stat().st_mode & 0o111 == 0o111, source


def test_given_the_dockerignore_then_all_that_it_lets_in_is_copied(
    dockerfiles: Dockerfiles,
) -> None:
    copied = {
        source
        for stages in dockerfiles.values()
        for stage in stages
        for sources, _ in stage.copies
        for source in sources
    }
    rules = (ROOT / ".dockerignore").read_text().splitlines()

    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert rules[1] == "*"


@pytest.mark.parametrize("name", COMPONENTS)
def test_given_a_dockerfile_then_bases_are_pinned_and_the_user_is_nobody_special(
    dockerfiles: Dockerfiles, name: str
) -> None:
    build, last = dockerfiles[name]

    for stage in (build, last):
        assert re.fullmatch(r"[a-z]+:[0-9][a-z0-9.-]+@sha256:[0-9a-f]{64}", stage.base), stage.base
    assert build.base == last.base, "an environment works with the Python that made it"
    [installer] = [text for text in build.all("RUN") if text.startswith("pip ")]
    assert re.search(r" uv==[0-9.]+$", installer)
    assert all("--frozen" in text for text in build.all("RUN") if text.startswith("uv "))
    assert last.all("USER") == ["icebus"]
    assert all("--uid 10001" in text for text in last.all("RUN") if "useradd" in text)
    assert last.words("HEALTHCHECK")
    assert not any("password" in text.lower() for text in last.all("ENV"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_given_an_image_then_its_programs_start(images: dict[str, Image], name: str) -> None:
    for program in PROGRAMS[name]:
        done = subprocess.run(
            [images[name].installed / "bin" / program, "--help"],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        assert "Usage" in done.stdout


@pytest.mark.parametrize("name", COMPONENTS)
def test_given_an_image_then_all_that_is_ours_is_in_it_and_nothing_of_this_checkout(
    images: dict[str, Image], name: str
) -> None:
    [packages] = images[name].installed.glob("lib/python3*/site-packages")
    ours = {
        path.relative_to(ROOT / component)
        for component, path in tracked()
        if path.is_relative_to(ROOT / component / "icebus")
    }
    assert len(ours) > 100

    missing = [path for path in ours if not (packages / path).is_file()]

    assert missing == []
    assert not list(packages.glob("*icebus*.pth"))


def tracked() -> Iterator[tuple[str, Path]]:
    """Our packages' files as they are to be shipped: sources, and what they read."""
    for component in ("schemas", "broker", "control", "worker", "client"):
        for path in (ROOT / component / "icebus").rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield component, path


def test_given_the_wheel_then_it_has_every_package_its_data_and_its_programs(
    tmp_path: Path,
) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".uv" / "bin"))
    if uv is None:
        pytest.skip("uv is not installed")
    for offline in (["--offline"], []):
        done = subprocess.run(
            [uv, "build", "--wheel", *offline, "-q", "-o", str(tmp_path), str(ROOT)],
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr

    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [listing] = [name for name in names if name.endswith("entry_points.txt")]
        entry_points = archive.read(listing).decode()
    expected = {str(path.relative_to(ROOT / component)) for component, path in tracked()}
    assert expected <= names
    assert {
        f"icebus/{each}/py.typed"
        for each in (*COMPONENTS, "bus", "client", "fpga", "rack", "schemas")
    } <= names
    assert "icebus/control/store/migrations/script.py.mako" in names
    assert "icebus/__init__.py" not in names
    assert not [name for name in names if name.startswith(("tests", "docs", "examples"))]
    for program in ("icebus", "icebus-broker", "icebus-control", "icebus-worker", "icebus-rack"):
        assert re.search(rf"^{program} = ", entry_points, re.MULTILINE)


def test_given_our_shell_scripts_then_they_are_sound() -> None:
    scripts = [
        path
        for component in COMPONENTS
        for path in (ROOT / component).iterdir()
        if path.is_file() and path.read_bytes().startswith(b"#!/bin/")
    ]
    assert len(scripts) == 2
    for script in scripts:
        shell = script.read_text().splitlines()[0].removeprefix("#!")
        done = subprocess.run([shell, "-n", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
