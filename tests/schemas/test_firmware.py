from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import (
    MAGIC,
    Chip,
    FirmwareMarker,
    marker_bytes,
    marker_image,
    read_marker,
)

MARKERS = st.builds(
    FirmwareMarker,
    name=st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
    version=st.from_regex(r"[0-9A-Za-z.+-]{1,20}", fullmatch=True),
    chip=st.sampled_from(Chip),
)
MARKER = FirmwareMarker(name="pulse_count", version="1.0", chip=Chip.RP2040)


@given(MARKERS)
def test_given_any_marker_when_put_into_an_image_then_it_is_read_back(marker: Any) -> None:
    image = uf2.decode(marker_image(marker))

    assert read_marker(image.payload) == marker
    assert image.family == marker.chip.rack_family
    assert image.address == uf2.FLASH_ADDRESS


@given(MARKERS, st.binary(max_size=600), st.binary(max_size=600))
def test_given_other_content_around_it_when_read_then_the_marker_is_found(
    marker: Any, before: Any, after: Any
) -> None:
    assert read_marker(before + marker_bytes(marker) + after) == marker


@given(st.binary(max_size=600))
def test_given_content_without_a_marker_when_read_then_there_is_none(payload: Any) -> None:
    assert read_marker(payload) is None


@pytest.mark.parametrize(
    "decoy",
    [
        MAGIC,
        MAGIC + b"\xff\xff\xff\xff",
        MAGIC + b"\x02\0\0\0{}",
        MAGIC + b"\x04\0\0\0\xff\xff\xff\xff",
        MAGIC + b"\0\0\0\0",
    ],
)
def test_given_a_magic_by_chance_when_read_then_it_is_passed_over(decoy: Any) -> None:
    assert read_marker(decoy) is None
    assert read_marker(decoy + marker_bytes(MARKER)) == MARKER


def test_given_the_families_when_compared_then_no_real_bootloader_takes_an_image_of_the_rack() -> (
    None
):
    assert {chip.rack_family for chip in Chip}.isdisjoint(chip.family for chip in Chip)


@pytest.mark.parametrize("name", ["", "Pulse", "../x", "a b", "x" * 65])
def test_given_a_name_that_is_none_when_made_then_it_is_refused(name: Any) -> None:
    with pytest.raises(ValidationError):
        FirmwareMarker(name=name, chip=Chip.RP2040)
