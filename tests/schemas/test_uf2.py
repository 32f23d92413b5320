from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards import uf2
from icebus.schemas.errors import FirmwareInvalid

FAMILIES = [uf2.RP2040, uf2.RP2350_ARM, uf2.RACK_RP2040, uf2.RACK_RP2350]
IMAGE = uf2.encode(bytes(range(256)) * 3, uf2.RP2040, uf2.FLASH_ADDRESS)


def patched(offset: int, value: int, block: int = 1, image: bytes = IMAGE) -> bytes:
    data = bytearray(image)
    struct.pack_into("<I", data, block * uf2.BLOCK_SIZE + offset, value)
    return bytes(data)


@given(
    payload=st.binary(min_size=1, max_size=2000),
    family=st.sampled_from(FAMILIES),
    page=st.integers(0, (1 << 24) - 8),
)
def test_given_any_payload_when_encoded_then_decoding_gives_it_back_in_whole_pages(
    payload: Any, family: Any, page: Any
) -> None:
    image = uf2.decode(uf2.encode(payload, family, page * uf2.PAGE_SIZE))

    assert image.family == family
    assert image.address == page * uf2.PAGE_SIZE
    assert len(image.payload) % uf2.PAGE_SIZE == 0
    assert image.payload.rstrip(b"\0") == payload.rstrip(b"\0")
    assert image.payload.startswith(payload)


def test_given_the_specification_when_encoding_then_every_field_is_where_it_says() -> None:
    first = IMAGE[:512]

    assert first[:8] == b"UF2\n\x57\x51\x5d\x9e"
    assert struct.unpack_from("<6I", first, 8) == (
        0x2000,
        0x10000000,
        256,
        0,
        3,
        0xE48BFF56,
    )
    assert first[32:288] == bytes(range(256))
    assert first[288:508] == bytes(220)
    assert first[508:] == b"\x30\x6f\xb1\x0a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "blocks of 512"),
        (IMAGE[:-1], "blocks of 512"),
        (patched(0, 0), "magic"),
        (patched(4, 0), "magic"),
        (patched(508, 0), "magic"),
        (patched(8, 0), "flags"),
        (patched(8, 0x2001), "flags"),
        (patched(12, 0x10000200), "where the one before"),
        (patched(16, 255), "carries"),
        (patched(20, 2), "calls itself"),
        (patched(24, 4), "calls itself"),
        (patched(28, uf2.RP2350_ARM), "mixes families"),
        (IMAGE[:1024], "calls itself"),
        (IMAGE[512:], "calls itself"),
        (IMAGE[:512] + IMAGE[1024:], "calls itself"),
        (IMAGE[512:1024] + IMAGE[:512] + IMAGE[1024:], "calls itself"),
        (patched(12, 0x10000001, 0, IMAGE[:512]), "calls itself"),
    ],
)
def test_given_a_file_with_one_thing_wrong_when_decoded_then_it_is_refused(
    data: bytes, message: Any
) -> None:
    with pytest.raises(FirmwareInvalid, match=message):
        uf2.decode(data)


@given(st.binary(max_size=2048))
def test_given_any_bytes_when_decoded_then_nothing_but_the_typed_error_comes(
    data: bytes,
) -> None:
    with pytest.raises(FirmwareInvalid):
        uf2.decode(data)


@given(st.integers(0, len(IMAGE) * 8 - 1))
def test_given_one_flipped_bit_when_decoded_then_it_is_refused_or_only_data_differs(
    bit: Any,
) -> None:
    data = bytearray(IMAGE)
    data[bit // 8] ^= 1 << bit % 8
    try:
        image = uf2.decode(bytes(data))
    except FirmwareInvalid:
        return
    offset = bit // 8 % uf2.BLOCK_SIZE
    assert 32 <= offset < 508
    assert (image.family, image.address) == (uf2.RP2040, uf2.FLASH_ADDRESS)


def test_given_the_first_block_of_picotool_for_the_rp2350_when_decoded_then_it_is_skipped() -> None:
    ignored = bytearray(uf2.encode(b"\xef" * 256, 0xE48BFF57, 0x10FFFF00))
    struct.pack_into("<I", ignored, 8, 0xA000)
    struct.pack_into("<I", ignored, 24, 2)
    struct.pack_into("<I", ignored, 288, 0x9957E304)

    image = uf2.decode(bytes(ignored) + uf2.encode(b"x", uf2.RP2350_ARM, uf2.FLASH_ADDRESS))

    assert image.family == uf2.RP2350_ARM
    assert image.payload.startswith(b"x\0")
    with pytest.raises(FirmwareInvalid, match="nothing"):
        uf2.decode(bytes(ignored))


@pytest.mark.parametrize(
    ("payload", "address"), [(b"", 0), (b"x", 1), (b"x", -256), (b"x" * 257, (1 << 32) - 256)]
)
def test_given_an_image_that_no_flash_can_hold_when_encoded_then_it_is_refused(
    payload: Any, address: Any
) -> None:
    with pytest.raises(FirmwareInvalid):
        uf2.encode(payload, uf2.RP2040, address)
