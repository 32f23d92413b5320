"""Docstrings as help: paragraphs for whatever width the terminal has."""

from __future__ import annotations

EXAMPLES = "Examples:"


def reflow(doc: str) -> str:
    """A docstring whose paragraphs are one line each; lines of examples stay as they are."""
    return "\n\n".join(
        paragraph if paragraph.startswith(EXAMPLES) else " ".join(paragraph.split())
        for paragraph in doc.strip().split("\n\n")
    )
