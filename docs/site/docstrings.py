"""What of our docstrings is for tools, such as flags of doctest, is left out of the site."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|mod|attr):`~?([^`]+)`")
_FLAG = re.compile(r"[ ]*# doctest: .*")
_EXAMPLE = re.compile(r"^(?:(?:>>>|\.\.\.) .*\n?)+", re.MULTILINE)


class Plain(griffe.Extension):
    """Leaves of each docstring what people read, and marks its examples as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for everything that there is."""
        if obj.docstring is not None:
            plain = _FLAG.sub("", _ROLE.sub(r"`\1`", obj.docstring.value))
            obj.docstring.value = _EXAMPLE.sub(
                lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", plain
            )
