"""What a board says, whatever pieces it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards import pulse_count_text as text
from icebus.worker.firmware._lines import LONGEST, Lines
from icebus.worker.firmware.pulse_count._conversation import (
    Conversation,
    Meaning,
    NoReport,
    Received,
    Report,
    Started,
    Waiting,
    Watchdog,
    recognises,
)

TIMES = text.FLASH_TIMES.format(init=1, start=2, open=3, write=4, close=5)

SAYINGS = st.sampled_from(
    [
        text.CONNECTED,
        text.WAITING,
        text.STARTED,
        text.RECEIVING,
        text.RECEIVED.format(us=104_090),
        text.FLASHING,
        TIMES,
        text.PULSES.format(pulses=0),
        text.PULSES.format(pulses=31_995),
        f"{TIMES}, pulses: 1998",
        text.IDLE,
        text.WATCHDOG.format(received=4711, size=text.BITSTREAM_SIZE),
        text.DEFAULT_LINE,
        text.VIRTUAL_EXACT,
        text.VIRTUAL_CDONE_LOW,
        text.VIRTUAL_ESTIMATE + "a loop",
        text.VIRTUAL_UNSUPPORTED + "BRAM",
        text.VIRTUAL_UNAVAILABLE + "no chipdb",
        "",
        "Wait",
        "pulses: ",
    ]
)


def meanings(pieces: list[bytes]) -> list[Meaning]:
    lines, conversation = Lines(), Conversation()
    heard = [conversation.read(line) for piece in pieces for line in lines.feed(piece)]
    return [meaning for meaning in heard if meaning is not None]


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted(draw(st.sets(st.integers(0, len(data)))))
    ends = [*places, len(data)]
    return [data[start:end] for start, end in zip([0, *places], ends, strict=True)]


@given(st.data(), st.lists(SAYINGS, max_size=12))
def test_given_any_talk_when_cut_anywhere_then_its_meanings_are_the_same(
    data: st.DataObject, sayings: list[str]
) -> None:
    talk = "".join(line + text.EOL for line in sayings).encode()
    assert meanings(data.draw(cut(talk))) == meanings([talk])


@given(st.data(), st.lists(st.binary(max_size=40), max_size=12))
def test_given_any_bytes_when_cut_anywhere_then_the_lines_are_the_same(
    data: st.DataObject, chunks: list[bytes]
) -> None:
    babble = b"\n".join(chunks)
    lines = Lines()
    heard = [line for piece in data.draw(cut(babble)) for line in lines.feed(piece)]
    assert heard == Lines().feed(babble)


@given(st.data(), st.integers(0, 999_999_999_999))
def test_given_a_count_when_cut_anywhere_then_no_digit_is_lost(
    data: st.DataObject, pulses: int
) -> None:
    talk = f"{TIMES}{text.EOL}{text.PULSES.format(pulses=pulses)}{text.EOL}".encode()
    assert meanings(data.draw(cut(talk))) == [Report(pulses)]


def test_given_a_count_whose_line_has_not_ended_then_nothing_is_reported() -> None:
    assert meanings([b", pulses: 31"]) == []
    assert meanings([b", pulses: 31", b"995\r\n"]) == [Report(31995)]


def test_given_the_report_as_one_line_then_it_means_the_same() -> None:
    two = meanings([f"{TIMES}\r\n, pulses: 1998\r\n".encode()])
    assert meanings([f"{TIMES}, pulses: 1998\r\n".encode()]) == two == [Report(1998)]


@given(st.binary(max_size=200).filter(lambda garbage: b"\n" not in garbage))
def test_given_garbage_lines_between_then_the_report_stands(garbage: bytes) -> None:
    talk = f"{TIMES}\r\n".encode() + garbage + b"\r\n, pulses: 1998\r\n"
    assert Report(1998) in meanings([talk])


@pytest.mark.parametrize(
    "line", [", pulses:", ", pulses: x", ", pulses: 12x", ", pulses: -1", ", pulses: " + "9" * 13]
)
def test_given_a_damaged_count_then_it_is_no_report(line: str) -> None:
    assert meanings([f"{line}\r\n".encode()]) == []


def test_given_babble_without_an_end_then_little_is_kept() -> None:
    lines = Lines()
    for _ in range(1000):
        assert lines.feed(b"babble" * 100) == []
    assert len(lines._rest) <= LONGEST
    assert lines.feed(b"\r\nWaiting\r\n")[-1] == "Waiting"


def test_given_each_line_of_the_protocol_then_it_is_understood() -> None:
    talk = [
        (text.WAITING, Waiting()),
        (text.STARTED, Started()),
        (text.RECEIVED.format(us=5), Received()),
        (text.WATCHDOG.format(received=7, size=text.BITSTREAM_SIZE), Watchdog(7)),
        (text.VIRTUAL_UNSUPPORTED + "BRAM", NoReport(decoder=False, reason="BRAM")),
        (text.VIRTUAL_UNAVAILABLE + "no chipdb", NoReport(decoder=True, reason="no chipdb")),
    ]
    for line, meaning in talk:
        assert meanings([f"{line}\r\n".encode()]) == [meaning]
        assert recognises(line)


def test_given_a_remark_then_it_belongs_to_the_next_count_only() -> None:
    talk = [text.VIRTUAL_ESTIMATE + "a loop", text.PULSES.format(pulses=1)]
    both = [*talk, text.WAITING, text.PULSES.format(pulses=2)]
    heard = meanings(["".join(line + "\n" for line in both).encode()])
    assert heard == [
        Report(1, exact=False, cdone=True, note="a loop"),
        Waiting(),
        Report(2),
    ]


def test_given_a_remark_without_a_count_when_the_next_transfer_begins_then_it_is_forgotten() -> (
    None
):
    talk = [text.VIRTUAL_CDONE_LOW, text.STARTED, text.PULSES.format(pulses=2)]
    assert meanings(["\n".join([*talk, ""]).encode()]) == [Started(), Report(2)]


@pytest.mark.parametrize("line", [text.DEFAULT_LINE, "", "pulses: 5", "hello", "IDLE now"])
def test_given_a_line_that_others_say_too_then_it_gives_no_firmware_away(line: str) -> None:
    assert not recognises(line)


@pytest.mark.parametrize(
    "prefix", [text.VIRTUAL_UNSUPPORTED, text.VIRTUAL_UNAVAILABLE, text.VIRTUAL_ESTIMATE]
)
def test_given_words_that_would_drive_a_terminal_or_do_not_end_then_they_are_plain_and_short(
    prefix: str,
) -> None:
    conversation = Conversation()
    meaning = conversation.read(prefix + "\x1b[2J\x00\x07" + "x" * 60_000)
    if meaning is None:
        meaning = conversation.read(text.PULSES.format(pulses=1))
    said = meaning.reason if isinstance(meaning, NoReport) else getattr(meaning, "note", "")
    assert said.startswith("?[2J??xxx")
    assert len(said) <= text.MAX_LINE
