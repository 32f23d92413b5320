from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards.framed import HEADER_SIZE, MAGIC, Frame, FrameParser, FrameType
from icebus.schemas.boards.framed_replies import (
    LONGEST_NOTE,
    Banner,
    BoardStatus,
    Outcome,
    Phase,
    Reason,
    Rejected,
    Result,
    Samples,
)
from icebus.schemas.boards.framed_requests import (
    PINS_AT_ONCE,
    CountPulses,
    Encoding,
    Measure,
    TakeSamples,
)

WORDS = st.integers(0, 0xFFFF_FFFF)
PAYLOADS = st.binary(max_size=200)
FRAMES = st.builds(Frame, type=st.sampled_from(FrameType), sequence=WORDS, payload=PAYLOADS)
GARBAGE = st.one_of(st.binary(max_size=60), st.sampled_from([MAGIC, MAGIC[:1], MAGIC * 9]))
PULSES = st.builds(
    CountPulses,
    pins=st.lists(st.integers(1, 48), max_size=PINS_AT_ONCE).map(tuple),
    window_us=WORDS,
)
SAMPLING = st.builds(
    TakeSamples, adc_input=st.integers(0, 7), rate_hz=WORDS, count=st.integers(0, 0xFFFF)
)
STATUSES = st.builds(
    BoardStatus,
    free_bytes=WORDS,
    waiting=st.integers(0, 0xFFFF),
    phase=st.sampled_from(Phase),
    cdone=st.booleans(),
    sequence=WORDS,
    skipped_bytes=WORDS,
    uptime_ms=WORDS,
    temperature_mc=st.integers(-50_000, 150_000),
)
RESULTS = st.builds(
    Result,
    outcome=st.sampled_from(Outcome),
    cdone=st.booleans(),
    pulses=st.lists(WORDS, max_size=PINS_AT_ONCE).map(tuple),
    samples=st.integers(0, 0xFFFF),
    window_us=WORDS,
    temperature_mc=st.integers(-50_000, 150_000),
    inflate_us=WORDS,
    configure_us=WORDS,
    gap_us=WORDS,
    estimate=st.booleans(),
    note=st.text(max_size=128).filter(str.isprintable),
)
REJECTIONS = st.builds(Rejected, reason=st.sampled_from(Reason), detail=WORDS)
SOME_SAMPLES = st.builds(
    Samples,
    first=st.integers(0, 0xFFFF),
    values=st.lists(st.integers(0, 4095), max_size=256).map(tuple),
)
BANNER = Banner(
    protocol=1,
    firmware="icebus",
    version="0.1.0",
    board="pico-ice",
    chip="rp2040",
    id="E6616407E308B9E2",
    reset="power",
    bitstream_size=104_096,
    queue_bytes=122_880,
    queue_length=64,
    pins=(27, 25),
    pins_at_once=4,
    window_us=(1000, 60_000_000),
    adc_inputs=(2, 3),
    rate_hz=(1000, 500_000),
    samples=4096,
)


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(1, 60), min_size=1))
def test_given_frames_when_they_come_in_pieces_of_any_size_then_all_are_found_in_order(
    frames: Any, sizes: Any
) -> None:
    stream = b"".join(frame.pack() for frame in frames)
    parser, at = FrameParser(), 0
    found: list[Frame] = []
    while at < len(stream):
        size = sizes[len(found) % len(sizes)]
        found += parser.feed(stream[at : at + size])
        at += size

    assert found == frames
    assert parser.skipped == 0
    assert not parser.inside_frame


@given(st.lists(st.tuples(GARBAGE, FRAMES), max_size=4), GARBAGE)
def test_given_garbage_between_frames_when_silence_ends_it_then_all_frames_are_found(
    pieces: Any, tail: Any
) -> None:
    parser = FrameParser()
    stream = b"".join(garbage + frame.pack() for garbage, frame in pieces) + tail

    found = parser.feed(stream) + parser.drop_begun_frame()

    assert found == [frame for _, frame in pieces]
    assert parser.skipped == len(tail) + sum(len(garbage) for garbage, _ in pieces)


@given(FRAMES, FRAMES, st.data())
def test_given_a_bit_flipped_in_a_frame_when_parsed_then_it_is_lost_and_the_next_is_found(
    first: Any, second: Any, data: Any
) -> None:
    damaged = bytearray(first.pack())
    bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
    # The byte that is reserved is checked like the others.
    damaged[bit // 8] ^= 1 << bit % 8
    parser = FrameParser()

    found = parser.feed(bytes(damaged) + second.pack()) + parser.drop_begun_frame()

    assert found == [second]


@given(FRAMES, FRAMES, st.data())
def test_given_bytes_lost_within_a_frame_when_parsed_then_the_next_is_found(
    first: Any, second: Any, data: Any
) -> None:
    whole = first.pack()
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start + 1, len(whole)))
    parser = FrameParser()

    found = parser.feed(whole[:start] + whole[end:] + second.pack()) + parser.drop_begun_frame()

    assert found == [second]


def test_given_a_header_of_one_frame_and_the_rest_of_another_then_neither_is_believed() -> None:
    one, other = Frame(1, 1, b"abc").pack(), Frame(1, 2, b"xyz").pack()
    parser = FrameParser()

    assert parser.feed(one[:HEADER_SIZE] + other[HEADER_SIZE:]) == []


def test_given_a_header_that_announces_too_much_when_parsed_then_it_is_taken_for_damage() -> None:
    long, short = Frame(FrameType.RESULT, 1, bytes(11)), Frame(FrameType.RESULT, 2, bytes(10))

    assert FrameParser(longest=10).feed(long.pack() + short.pack()) == [short]


def test_given_the_document_when_packing_then_every_field_is_where_it_says() -> None:
    data = Frame(FrameType.MEASURE, 0x11223344, b"payload").pack()

    assert data[:8] == b"\xb1\xc0\x02\x00\x44\x33\x22\x11"
    assert struct.unpack_from("<II", data, 8) == (7, zlib.crc32(data[:12]))
    assert data[16:23] == b"payload"
    assert struct.unpack_from("<I", data, 23) == (zlib.crc32(data[:12] + data[16:23]),)
    assert Frame(FrameType.HELLO, 1).pack()[8:12] == bytes(4)
    assert len(Frame(FrameType.HELLO, 1).pack()) == HEADER_SIZE


@given(st.one_of(PULSES, SAMPLING), st.binary(min_size=1, max_size=300))
def test_given_any_measurement_when_requested_then_it_is_read_back(
    measurement: Any, bitstream: Any
) -> None:
    request = Measure.of(bitstream, measurement)

    assert Measure.parse(request.pack()) == request
    assert request.bitstream_size == len(bitstream)
    assert len(request.encoded) <= len(bitstream)
    inflated = (
        zlib.decompress(request.encoded, -zlib.MAX_WBITS)
        if request.encoding is Encoding.DEFLATE
        else request.encoded
    )
    assert inflated == bitstream
    assert request.bitstream_crc == zlib.crc32(inflated)


@given(RESULTS)
def test_given_any_result_when_packed_then_it_is_read_back(result: Any) -> None:
    assert Result.parse(result.pack()) == result


@given(RESULTS, st.text(min_size=1).filter(str.isprintable))
def test_given_a_note_of_any_length_when_packed_then_it_ends_with_a_whole_character(
    result: Any, text: str
) -> None:
    long = replace(result, note=text * 513)
    read = Result.parse(long.pack())

    assert long.note.startswith(read.note)
    assert LONGEST_NOTE - 3 <= len(read.note.encode()) <= LONGEST_NOTE


@pytest.mark.parametrize("said", [b"\x1b[2J\r\n\0", b"\xff\xfe", "\u202e\u2028\x9b".encode()])
def test_given_a_note_that_would_drive_a_terminal_when_parsed_then_it_is_text(said: bytes) -> None:
    plain = Result(Outcome.MEASURED, True, (1,), 0, 1, 2, 3, 4, 5)
    note = Result.parse(plain.pack() + b"a" + said * 1000).note

    assert note.startswith("a")
    assert note.isprintable()
    assert len(note) <= LONGEST_NOTE


def test_given_samples_beyond_the_converters_12_bits_when_parsed_then_it_is_a_value_error() -> None:
    assert Samples.parse(Samples(0, (4095,)).pack()).values == (4095,)
    with pytest.raises(ValueError, match="4096"):
        Samples.parse(Samples(0, (4096,)).pack())


@pytest.mark.parametrize("field", ["firmware", "version", "board", "chip", "id", "reset"])
@pytest.mark.parametrize("said", ["\x1b[2J", "a\nb", "é", "x" * 65, "\0"])
def test_given_a_banner_that_would_drive_a_terminal_when_parsed_then_it_is_a_value_error(
    field: str, said: str
) -> None:
    odd = json.loads(BANNER.pack()) | {field: said}
    with pytest.raises(ValueError, match=field):
        Banner.parse(json.dumps(odd).encode())


def test_given_a_result_of_a_real_board_when_parsed_then_it_is_no_estimate_without_a_note() -> None:
    real = struct.pack("<BBBxHxxIiIII4I", 0, 1, 1, 0, 1_000_000, 25_000, 1, 2, 3, 8000, 0, 0, 0)

    result = Result.parse(real)

    assert (result.pulses, result.estimate, result.note) == ((8000,), False, "")


@given(st.one_of(STATUSES, REJECTIONS, SOME_SAMPLES))
def test_given_any_other_reply_when_packed_then_it_is_read_back_also_with_fields_added(
    reply: Any,
) -> None:
    assert type(reply).parse(reply.pack()) == reply
    assert type(reply).parse(reply.pack() + b"later") == reply


def test_given_a_banner_when_packed_then_it_is_read_back_also_with_fields_added() -> None:
    assert Banner.parse(BANNER.pack()) == BANNER
    assert Banner.parse(BANNER.pack()[:-1] + b',"later":1}') == BANNER


@pytest.mark.parametrize("message", [Measure, BoardStatus, Rejected, Result, Samples, Banner])
@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xff" * 300])
def test_given_a_payload_of_another_version_when_parsed_then_it_is_a_value_error(
    message: Any, payload: bytes
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what it says depends on the message
        message.parse(payload)
