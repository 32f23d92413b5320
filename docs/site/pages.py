"""Puts the documents of the repository together as pages of the site, for script/docs to build.

The documents stay where they are and link to each other as GitHub shows them; here they come into
one folder, and links to what is no page lead to copies of those files. The page of the library is
made of the docstrings of its public names.

    python docs/site/pages.py FOLDER
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
CONFIGURATION = Path(__file__).with_name("zensical.toml")

DOCUMENTS = ("*.md", "docs/*.md", "*/README.md", "examples/*/README.md")
"""Where documents are, as patterns of paths."""

FILES = PurePosixPath("files")
"""Folder for copies of what documents link to and what is no page."""

FIRST = ("PulseCountClient", "Boards", "PulseCountResult", "Failure", "EvaluationsFailed")
"""What most programs use: it comes first on the page of the library, the rest by the alphabet."""

PUBLIC = ROOT / "client/icebus/client/__init__.py"

_LINK = re.compile(r"(!?\[([^\[\]]*)\]\()([^)#\s]+)([^)]*\))")
_ITEM = re.compile(r"(?:[-*]|\d+\.) +")
_FENCE = re.compile(r"^[ \t]*```.*?^[ \t]*```$", re.DOTALL | re.MULTILINE)


class BrokenLink(Exception):
    """A document links to what is not there."""


def documents(root: Path = ROOT) -> list[PurePosixPath]:
    """All documents, as paths below the repository."""
    found = {path.relative_to(root) for pattern in DOCUMENTS for path in root.glob(pattern)}
    return sorted(
        PurePosixPath(path) for path in found if not any(part[0] == "." for part in path.parts)
    )


def page_of(document: PurePosixPath) -> PurePosixPath:
    """Where a document stands on the site."""
    if document.name != "README.md":
        return PurePosixPath(document.name.lower())
    return PurePosixPath(f"{document.parent.name or 'index'}.md")


def relink(text: str, document: PurePosixPath, root: Path = ROOT) -> tuple[str, set[PurePosixPath]]:
    """A document with its links as they are on the site, and the files that they lead to.

    Raises:
        BrokenLink: one leads nowhere.
    """
    known = set(documents(root))
    files: set[PurePosixPath] = set()

    def target(found: re.Match[str]) -> str:
        before, said, to, after = found.groups()
        if "://" in to:
            return found[0]
        there = PurePosixPath(os.path.normpath(document.parent / to))
        for page in (there, there / "README.md"):
            if page in known:
                return f"{before}{page_of(page)}{after}"
        path = root / there
        if not path.exists():
            raise BrokenLink(f"{document} links to {to}, which is not there")
        if path.is_dir():
            return said  # a site lists no folders
        files.add(there)
        return f"{before}{FILES / there}{after}"

    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(target, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(target, text[end:])]), files


def indent(text: str) -> str:
    """A document with what belongs to an item of a list indented by four, as the site wants it.

    GitHub is content with as much as the item's own mark takes.
    """
    lines, width, code = [], 0, False
    for line in text.split("\n"):
        if line.startswith("```"):
            width, code = 0, not code
        if code:
            pass
        elif found := _ITEM.match(line):
            width = found.end()
        elif line.strip() and not line.startswith(" " * width):
            width = 0
        elif width and line.strip():
            line = "    " + line[width:]
        lines.append(line)
    return "\n".join(lines)


def library_page(public: Mapping[str, str]) -> str:
    """The page of the library: its public names, each with all that its docstrings say.

    Args:
        public: the module in which each is defined, by name.
    """
    lines = ["# The library", "", "What `icebus.client` offers.", ""]
    first = [name for name in FIRST if name in public]
    for name in [*first, *sorted(set(public) - set(first))]:
        module = public[name]
        lines += [f"## {name}", "", f"::: {module}.{name}", ""]
    lines += ["## Errors", "", "All of `icebus.schemas.errors`.", "", "::: icebus.schemas.errors"]
    return "\n".join([*lines, ""])


def public_names(source: Path = PUBLIC) -> dict[str, str]:
    """The public names of the library, and the module in which each is defined."""
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOMES":
            homes: dict[str, str] = ast.literal_eval(node.value)
            return homes
    raise LookupError(f"{source} does not say where its names are defined")


def assemble(folder: Path, root: Path = ROOT) -> None:
    """Write all pages and what they link to into a folder, and the configuration beside it."""
    pages = folder / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for document in documents(root):
        text, files = relink((root / document).read_text(), document, root)
        (pages / page_of(document)).write_text(indent(text))
        for file in files:
            copy = pages / FILES / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / file, copy)
    (pages / "library.md").write_text(library_page(public_names()))
    shutil.copyfile(CONFIGURATION, folder / CONFIGURATION.name)


def unlisted(configuration: Mapping[str, object], root: Path = ROOT) -> Iterator[str]:
    """The documents that no section of the site has."""
    listed = set(_strings(configuration))
    for document in documents(root):
        if str(page_of(document)) not in listed:
            yield str(document)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, str):
        yield value


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
