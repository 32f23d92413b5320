"""Files beside messages: packed, named by their hash, and bounded when unpacked."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from icebus.schemas.errors import BlobInvalid, BlobMissing, InvalidRequest
from icebus.schemas.files import (
    IDENTITY,
    MAX_FILE_SIZE,
    ZLIB,
    Blob,
    File,
    missing_blobs,
    pack,
    sha256_of,
    unpack,
)
from icebus.schemas.message import Args, decode

BITSTREAM = os.urandom(500) + bytes(103_590)


class Blobs:
    def __init__(self, *blobs: Blob) -> None:
        self._blobs = {blob.sha256: blob for blob in blobs}

    def __call__(self, sha256: str) -> Blob | None:
        return self._blobs.get(sha256)


class Evaluate(Args):
    bitstreams: list[File]
    reference: File | None = None
    named: dict[str, File] = Field(default_factory=dict)


@given(data=st.binary(max_size=5000))
def test_given_any_bytes_then_packing_loses_nothing_and_never_grows(data: bytes) -> None:
    packed, encoding = pack(data)
    assert unpack(packed, encoding) == data
    assert len(packed) <= len(data)


def test_given_a_bitstream_then_it_packs_small() -> None:
    packed, encoding = pack(BITSTREAM)
    assert encoding == ZLIB
    assert len(packed) < len(BITSTREAM) / 20
    assert pack(os.urandom(1000))[1] == IDENTITY


def test_given_a_bomb_then_it_is_refused_without_unpacking_it_all() -> None:
    bomb = zlib.compress(bytes(200 << 20), 9)
    assert len(bomb) < MAX_FILE_SIZE
    tracemalloc.start()
    with pytest.raises(BlobInvalid, match="more than") as caught:
        unpack(bomb, ZLIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MAX_FILE_SIZE
    assert caught.value.details == {"limit": MAX_FILE_SIZE}


@pytest.mark.parametrize("encoding", [ZLIB, IDENTITY])
def test_given_exactly_the_limit_then_it_passes_and_one_more_does_not(encoding: str) -> None:
    for size, fits in ((MAX_FILE_SIZE, True), (MAX_FILE_SIZE + 1, False)):
        data = bytes(size)
        packed = zlib.compress(data) if encoding == ZLIB else data
        if fits:
            assert unpack(packed, encoding) == data
        else:
            with pytest.raises(BlobInvalid):
                unpack(packed, encoding)


@given(junk=st.binary(max_size=200), encoding=st.sampled_from([ZLIB, IDENTITY, "gzip", ""]))
def test_given_any_packed_bytes_then_only_our_error_is_raised(junk: bytes, encoding: str) -> None:
    with contextlib.suppress(BlobInvalid):
        unpack(junk, encoding)


def test_given_packed_bytes_that_end_early_then_they_are_refused() -> None:
    packed = zlib.compress(BITSTREAM)
    for end in (0, 1, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BlobInvalid):
            unpack(packed[:end], ZLIB)


def test_given_a_file_by_hash_then_it_finds_its_bytes_in_the_context() -> None:
    blob = Blob.of(BITSTREAM)
    args = Evaluate.model_validate(
        {"bitstreams": [{"sha256": blob.sha256, "name": "a.bin"}]},
        context={"find_blob": Blobs(blob)},
    )
    [file] = args.bitstreams
    assert file.blob.read() == BITSTREAM
    assert file.hash == sha256_of(BITSTREAM)
    assert missing_blobs(args) == []


def test_given_a_file_inline_then_it_brings_its_bytes() -> None:
    payload = {"bitstreams": [{"data": base64.b64encode(b"bits").decode()}]}
    args = decode(Evaluate, json.dumps(payload).encode())
    assert args.bitstreams[0].blob.read() == b"bits"
    assert args.bitstreams[0].hash == sha256_of(b"bits")
    assert missing_blobs(args) == []


def test_given_a_packed_file_inline_then_it_is_read_as_it_was_however_often() -> None:
    packed, encoding = pack(BITSTREAM)
    file = File(data=base64.b64encode(packed), encoding=encoding)
    assert file.hash == sha256_of(BITSTREAM)
    assert [file.read(), file.read(), file.blob.read()] == [BITSTREAM] * 3


@pytest.mark.parametrize("data", [b"not zlib", zlib.compress(bytes(MAX_FILE_SIZE + 1))])
def test_given_what_can_not_be_unpacked_inline_then_it_is_refused(data: bytes) -> None:
    payload = {"bitstreams": [{"data": base64.b64encode(data).decode(), "encoding": ZLIB}]}
    with pytest.raises(InvalidRequest):
        decode(Evaluate, json.dumps(payload).encode())


def test_given_files_whose_bytes_have_not_come_then_they_are_listed_once() -> None:
    here, gone = Blob.of(b"here"), [sha256_of(bytes([number])) for number in range(3)]
    args = Evaluate.model_validate(
        {
            "bitstreams": [{"sha256": sha} for sha in (here.sha256, gone[0], gone[1], gone[0])],
            "reference": {"sha256": gone[2]},
            "named": {"again": {"sha256": gone[1]}},
        },
        context={"find_blob": Blobs(here)},
    )
    assert missing_blobs(args) == sorted(gone)
    assert missing_blobs({"x": (args, args.reference)}) == sorted(gone)
    assert missing_blobs("nothing") == []
    with pytest.raises(BlobMissing) as caught:
        assert args.bitstreams[1].blob
    assert caught.value.details == {"sha256": [gone[0]]}


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ({}, "either sha256"),
        ({"sha256": "0" * 64, "data": ""}, "either sha256"),
        ({"sha256": "0" * 63}, "sha256"),
        ({"sha256": "G" * 64}, "sha256"),
        ({"data": "not base64!"}, "data"),
        ({"data": "", "name": "x" * 4097}, "name"),
        ({"data": "", "id": "a b"}, "id"),
        ({"data": "", "colour": "red"}, "colour"),
        ({"data": base64.b64encode(bytes(MAX_FILE_SIZE + 1)).decode()}, "more than"),
    ],
)
def test_given_a_wrong_file_then_the_error_says_where(file: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        decode(Evaluate, json.dumps({"bitstreams": [file]}).encode())


@given(data=st.data())
def test_given_any_annotations_then_they_come_back(any_json: Any, data: st.DataObject) -> None:
    annotations = data.draw(st.dictionaries(st.text(max_size=5), any_json, max_size=3))
    file = File(data=base64.b64encode(b"x"), annotations=annotations, name="a", media_type="b/c")
    assert decode(File, file.model_dump_json().encode()) == file
