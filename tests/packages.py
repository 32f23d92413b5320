"""Installing a package of kinds for one test, so that nothing of it is left on the machine."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path


def install(project: Path, folder: Path) -> str:
    """Do as ``pip install --editable`` does, but without the network and into a folder of its own.

    Returns:
        the ``PYTHONPATH`` for who is to have it installed, with what was installed so before.
    """
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    info = folder / f"{described['name'].replace('-', '_')}-{described['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: {described['version']}\n"
    )
    lines = [
        line
        for group, entries in described["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    projects = folder / "projects"
    with projects.open("a") as file:
        file.write(f"{project}\n")
    return os.pathsep.join([str(folder), *projects.read_text().split()])
