"""The constants of the C sources are those of the Python codec and of the document."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from icebus.schemas.boards import framed
from icebus.schemas.boards.framed import FrameType
from icebus.schemas.boards.framed_replies import (
    SAMPLES_PER_FRAME,
    Outcome,
    Phase,
    Reason,
    ResultFlag,
)
from icebus.schemas.boards.framed_requests import PINS_AT_ONCE, Encoding, MeasurementKind

ROOT = Path(__file__).parents[2]
HEADER = (ROOT / "worker/firmware/source/protocol.h").read_text()
DOCUMENT = (ROOT / "docs/firmware.md").read_text()

PREFIXES = {
    FrameType: "",
    Encoding: "ENCODING_",
    MeasurementKind: "MEASUREMENT_KIND_",
    Outcome: "OUTCOME_",
    Reason: "REASON_",
    Phase: "PHASE_",
    ResultFlag: "RESULT_FLAG_",
}


@pytest.mark.parametrize("enum", PREFIXES, ids=lambda enum: enum.__name__)
def test_given_an_enumeration_when_compared_then_c_and_document_have_the_same(
    enum: type[IntEnum],
) -> None:
    for member in enum:
        value = re.search(rf"\b{PREFIXES[enum]}{member.name} = (\w+)", HEADER)
        assert value is not None, member.name
        assert int(value[1], 0) == member
        number = f"{member:#04x}" if enum is FrameType else str(member.value)
        assert re.search(rf"\b{number}\b( \|)? `{member.name}`", DOCUMENT), member.name


def test_given_the_constants_when_compared_then_c_has_the_same() -> None:
    defined = dict(re.findall(r"#define (\w+) (\w+)", HEADER))

    assert int(defined["PROTOCOL_VERSION"]) == framed.PROTOCOL_VERSION
    assert int(defined["SILENCE_US"]) == framed.SILENCE_SECONDS * 1e6
    assert int(defined["KEEP_ALIVE_US"]) == framed.KEEP_ALIVE_SECONDS * 1e6
    assert int(defined["PINS_AT_ONCE"]) == PINS_AT_ONCE
    assert int(defined["SAMPLES_PER_FRAME"]) == SAMPLES_PER_FRAME
    magic = bytes(int(defined[name], 0) for name in ("FRAME_MAGIC_0", "FRAME_MAGIC_1"))
    assert magic == framed.MAGIC
