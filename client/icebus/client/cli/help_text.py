"""Docstrings as help: paragraphs for whatever width the terminal has."""

from __future__ import annotations

EXAMPLES = "Examples:"

_MARGIN = "\u200b"
"""A line that shows nothing. Typer takes away what all lines of a text but its first are indented
by: without another one that would be the indentation of the examples."""


def reflow(doc: str) -> str:
    """A docstring whose paragraphs are one line each; lines of examples stay as they are."""
    return "\n\n".join(
        f"{paragraph}\n{_MARGIN}" if paragraph.startswith(EXAMPLES) else " ".join(paragraph.split())
        for paragraph in doc.strip().split("\n\n")
    )
