"""The bitstream file of the iCE40UP5K: is it one, and where are its bits.

A bitstream is refused here, with a reason, before it costs a board a second. A real board that is
sent a broken one leaves CDONE low and reports 0 pulses, which can't be told from a circuit that
does nothing.

The format, as Project IceStorm documents it: a comment (``FF 00 … 00 FF``), the preamble
``7E AA 99 7E``, then commands. A command byte holds an opcode (high nibble) and the number of its
argument bytes (low nibble); two commands are followed by a block of data, which two zero bytes end.
The checksum is CRC-16-CCITT (polynomial 0x1021, initial 0xFFFF) over everything between the command
that resets it and the two bytes of the command that checks it.

How long a file is says nothing of its worth: tools write other comments, or none, leave out block
RAM (``icepack -n``) or pad. Boards, however, take files of one size; :func:`normalise` makes them.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal, NoReturn

from icebus.schemas.boards.other_devices import device_of, other_part_in
from icebus.schemas.boards.pulse_count_text import BITSTREAM_SIZE as BITSTREAM_SIZE
from icebus.schemas.errors import BitstreamInvalid

PREAMBLE: Final = b"\x7e\xaa\x99\x7e"

CRAM_WIDTH: Final = 692
"""Bits in a row of each configuration bank of the iCE40UP5K."""

CRAM_HEIGHTS: Final = (336, 176, 336, 176)
"""Rows of the four configuration banks: bottom left, top left, bottom right, top right."""

BRAM_WIDTHS: Final = (160, 80, 160, 80)
"""Bits in a row of the four block RAM banks."""

BRAM_HEIGHT: Final = 256

_CRC_INITIAL: Final = 0xFFFF
_REBUILD: Final = "build it with icepack for --up5k --package sg48 and send the .bin unchanged"

# opcode -> number of argument bytes; from the format documentation and what icepack writes
_ARGUMENTS: Final = {0x0: 1, 0x1: 1, 0x2: 2, 0x5: 1, 0x6: 2, 0x7: 2, 0x8: 2, 0x9: (1, 2)}
_WRITE_CRAM, _WRITE_BRAM, _RESET_CRC, _WAKEUP = 1, 3, 5, 6
_BOOT_ADDRESS: Final = 0x4

_COMMENT_BEGIN, _COMMENT_END = b"\xff\0", b"\0\xff"
_PADDING: Final = frozenset((0x00, 0xFF))
"""What may follow the wake-up command: zeros, or what erased flash reads."""

_ASC: Final = (b".comment", b".device")


@dataclass(frozen=True, slots=True)
class BankWrite:
    """One block of memory that a bitstream writes.

    Attributes:
        memory: ``cram`` holds the configuration, ``bram`` the first contents of block RAM.
        bank: 0 to 3.
        width: bits in a row.
        height: rows written.
        offset: first row written.
        start: where the block's first byte is in the file. Bits follow row by row, the most
            significant of a byte first, with no padding between rows.
    """

    memory: Literal["cram", "bram"]
    bank: int
    width: int
    height: int
    offset: int
    start: int

    @property
    def size(self) -> int:
        """Bytes of the block."""
        return self.width * self.height // 8


@dataclass(frozen=True, slots=True)
class Normalised:
    """A bitstream of the size that boards take.

    Attributes:
        data: what is sent to a board.
        note: what was changed, for whoever gave the file; empty if nothing was.
    """

    data: bytes
    note: str


def validate(data: bytes) -> None:
    """Refuse what is not a bitstream for the iCE40UP5K, of whatever size.

    Raises:
        BitstreamInvalid: the message says what is wrong and what to do; ``details['problem']`` is
            one of ``size``, ``preamble``, ``truncated``, ``command``, ``device``, ``framing``,
            ``crc``, ``unchecked``, ``wakeup`` and ``trailing``, and ``details['size']`` the file's
            if that is not the boards'.
    """
    bank_writes(data)


def normalise(data: bytes) -> Normalised:
    """The bitstream with the size that boards take.

    What has it already is left as it is and not looked at. Of other files the commands, from the
    preamble to the wake-up, are kept to the byte; what is missing is filled up before them, as an
    empty comment, so that nothing lies between wake-up and measuring (*unverified* on silicon, like
    all that was not made by icepack).

    Raises:
        BitstreamInvalid: it has another size and is no valid bitstream, see :func:`validate`.
    """
    if len(data) == BITSTREAM_SIZE:
        return Normalised(data, "")
    walk = _Walk(bytes(data))
    walk.run()
    commands = bytes(walk.data[walk.start : walk.position])
    missing = BITSTREAM_SIZE - len(commands)
    zeros = missing - len(_COMMENT_BEGIN) - len(_COMMENT_END)
    filled = _COMMENT_BEGIN + bytes(zeros) + _COMMENT_END if zeros >= 0 else bytes(missing)
    note = f"brought from {len(data):,} bytes to the boards' {BITSTREAM_SIZE:,} by an empty comment"
    part = other_part_in(bytes(walk.data[: walk.start]))
    if part:
        note += f"; made for {part}, where signals may be on other pins than on the boards' SG48"
    return Normalised(filled + commands, note)


def bank_writes(data: bytes) -> tuple[BankWrite, ...]:
    """The blocks of memory that a valid bitstream writes, in file order.

    Raises:
        BitstreamInvalid: as :func:`validate`.
    """
    data = bytes(data)
    known = _reference[0] if _reference else None
    if known is None or not known.frames(data):
        walk = _Walk(data)
        walk.run()
        made = _Reference.of(walk)
        if made is not None:
            _reference[:] = [made]
        return tuple(walk.writes)
    following = known.follow(data)
    if following is None:
        _Walk(data).run()  # says what is wrong
    elif following is not known:
        _reference[:] = [following]
    return known.writes


def with_crc(data: bytes) -> bytes:
    """``data`` with its checksum made right again, for bitstreams that were edited on purpose.

    Raises:
        BitstreamInvalid: the file is wrong in other ways than its checksum.
    """
    out = bytearray(data)
    walk = _Walk(out, repair=True)
    walk.run()
    return bytes(out)


_BLOCK: Final = 256
_BLOCKS: Final = 16
_STRIDE: Final = _BLOCK * _BLOCKS
"""Bytes that are compared with the reference at a time; where they differ, block by block."""


@dataclass(frozen=True, slots=True)
class _Reference:
    """A valid bitstream that others are compared with.

    The files of one tool have one frame, and those of one search differ in few places. The checksum
    is linear: where two files are the same, the difference of their checksums goes on as if the
    bytes were 0, which tables know for a block; only blocks that differ have to be summed up.

    Attributes:
        data: the file.
        writes: its blocks of memory.
        frame: what is neither memory nor the stored checksum, and where each piece of it is.
        strides: the file from ``start`` on, in pieces that need not be copied to be compared.
        blocks: the same in shorter ones.
        start: where the checksum starts.
        stored: where it stands.
        states: the checksum from ``start`` on before each block and at the end.
    """

    data: bytes
    writes: tuple[BankWrite, ...]
    frame: tuple[tuple[bytes, ...], tuple[int, ...]]
    strides: tuple[bytes, ...]
    blocks: tuple[bytes, ...]
    start: int
    stored: int
    states: tuple[int, ...]

    @classmethod
    def of(cls, walk: _Walk) -> _Reference | None:
        """The reference that a walked file makes; none if it is checked in parts."""
        if len(walk.checks) != 1:
            return None
        data = bytes(walk.data)
        ((start, stored),) = walk.checks
        holes = sorted([*((w.start, w.start + w.size) for w in walk.writes), (stored, stored + 2)])
        edges = [0, *(edge for hole in holes for edge in hole), len(data)]
        states = [_CRC_INITIAL]
        for at in range(start, stored, _BLOCK):
            states.append(crc_hqx(data[at : min(at + _BLOCK, stored)], states[-1]))
        firsts = tuple(edges[::2])
        pieces = tuple(data[first:last] for first, last in zip(firsts, edges[1::2], strict=True))
        return cls(
            data,
            tuple(walk.writes),
            (pieces, firsts),
            tuple(data[at : min(at + _STRIDE, stored)] for at in range(start, stored, _STRIDE)),
            tuple(data[at : min(at + _BLOCK, stored)] for at in range(start, stored, _BLOCK)),
            start,
            stored,
            tuple(states),
        )

    def frames(self, data: bytes) -> bool:
        """Whether a file differs in the contents of memory and the stored checksum at most."""
        return len(data) == len(self.data) and all(map(data.startswith, *self.frame))

    def follow(self, data: bytes) -> _Reference | None:
        """The reference for the next file; None if the checksum of ``data`` is wrong."""
        blocks, states, same = self.blocks, self.states, data.startswith
        difference = block = summed = 0
        at, end = self.start, self.stored
        while at < end:
            size = _STRIDE
            if block % _BLOCKS or at + size > end or not same(self.strides[block // _BLOCKS], at):
                size = min(_BLOCK, end - at)
                if size < _BLOCK or not same(blocks[block], at):
                    part = data[at : at + size]
                    difference = crc_hqx(part, difference ^ states[block]) ^ states[block + 1]
                    summed += 1
                    at, block = at + size, block + 1
                    continue
            if difference:
                high, low = _skip_tables(size)
                difference = high[difference >> 8] ^ low[difference & 0xFF]
            at, block = at + size, block + size // _BLOCK
        crc = difference ^ states[block]
        if crc != int.from_bytes(data[end : end + 2], "big"):
            return None
        if summed <= block // 2:
            return self
        walk = _Walk(data, writes=list(self.writes), checks=[(self.start, self.stored)])
        return _Reference.of(walk)


@cache
def _skip_tables(size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What becomes of a checksum's high and low byte after so many zeros."""
    zeros = bytes(size)
    low = tuple(crc_hqx(zeros, byte) for byte in range(256))
    return tuple(crc_hqx(zeros, byte << 8) for byte in range(256)), low


_reference: list[_Reference] = []
"""The one in use, if any; replaced, never changed, so that threads may share it."""


@dataclass(slots=True)
class _Walk:
    """One pass over the commands. With ``repair``, checksums are written instead of checked."""

    data: bytes | bytearray
    repair: bool = False
    start: int = 0
    writes: list[BankWrite] = field(default_factory=list)
    position: int = 0
    crc_from: int | None = None
    checks: list[tuple[int, int]] = field(default_factory=list)
    checked: bool = False
    bank: int = 0
    width: int = 0
    height: int = 0
    offset: int = 0

    def run(self) -> None:
        data = self.data
        self.start = data.find(PREAMBLE)
        if self.start < 0:
            self._no_preamble()
        self.position = self.start + len(PREAMBLE)
        while not self._command():
            pass
        if not _PADDING.issuperset(data[self.position :]):
            self._refuse("trailing", f"more than padding after the wake-up command; {_REBUILD}")
        if self.position - self.start > BITSTREAM_SIZE:
            self._refuse(
                "size",
                f"its commands alone have {self.position - self.start:,} bytes, and boards take "
                f"{BITSTREAM_SIZE:,}; {_REBUILD}",
            )
        self._compare_heights()

    def _no_preamble(self) -> NoReturn:
        if self.data.startswith(_ASC):
            self._refuse("preamble", "this is nextpnr's .asc; turn it into a .bin with icepack")
        if len(self.data) != BITSTREAM_SIZE:
            self._refuse(
                "size",
                f"a bitstream for the iCE40UP5K has {BITSTREAM_SIZE:,} bytes, this has "
                f"{len(self.data):,} and no preamble 7E AA 99 7E; {_REBUILD}",
            )
        self._refuse("preamble", f"no preamble 7E AA 99 7E: not an iCE40 bitstream; {_REBUILD}")

    def _compare_heights(self) -> None:
        """Refuse devices of which only the upper banks are like those of the iCE40UP5K."""
        rows = [0, 0, 0, 0]
        for write in self.writes:
            if write.memory == "cram":
                rows[write.bank] += write.height
        device = device_of(CRAM_WIDTH, rows[0])
        if device and len(set(rows)) == 1:
            self._other_device(device, CRAM_WIDTH, rows[0])

    def _command(self) -> bool:
        """Take one command; true when it was the wake-up."""
        at = self.position
        if at >= len(self.data):
            self._refuse("wakeup", f"the file ends without the wake-up command; {_REBUILD}")
        opcode, length = divmod(self.data[at], 16)
        known = _ARGUMENTS.get(opcode)
        if opcode == _BOOT_ADDRESS:
            self._refuse(
                "command",
                "it holds several bitstreams to boot from flash (icemulti); send one of them",
                at=at,
            )
        if known is None or (length not in known if isinstance(known, tuple) else length != known):
            self._unknown(at)
        self.position = at + 1 + length
        if self.position > len(self.data):
            self._truncated(at)
        argument = int.from_bytes(self.data[at + 1 : self.position], "big")
        if opcode == 0:
            return self._special(at, argument)
        if opcode == 1:
            if argument > 3:
                self._device(f"there is no bank {argument}", at)
            self.bank = argument
        elif opcode == 2:
            self._check_crc(at, argument)
        elif opcode == 6:
            self.width = argument + 1
        elif opcode == 7:
            self.height = argument
        elif opcode == 8:
            self.offset = argument
        return False

    def _special(self, at: int, argument: int) -> bool:
        if argument in (_WRITE_CRAM, _WRITE_BRAM):
            self._write("cram" if argument == _WRITE_CRAM else "bram", at)
        elif argument == _RESET_CRC:
            self.crc_from = self.position
        elif argument == _WAKEUP:
            if not self.checked:
                self._refuse(
                    "unchecked", f"no checksum covers the configuration before wake-up; {_REBUILD}"
                )
            return True
        else:
            self._unknown(at)
        return False

    def _write(self, memory: Literal["cram", "bram"], at: int) -> None:
        if memory == "cram":
            width, rows = CRAM_WIDTH, CRAM_HEIGHTS[self.bank]
        else:
            width, rows = BRAM_WIDTHS[self.bank], BRAM_HEIGHT
        if self.width != width or not 0 < self.height <= rows - self.offset:
            device = device_of(self.width, self.height) if memory == "cram" else ""
            if device:
                self._other_device(device, self.width, self.height)
            self._compare_heights()
            self._device(
                f"it writes {self.height} rows of {self.width} bits from row {self.offset} of "
                f"{memory.upper()} bank {self.bank}, which has {rows} rows of {width}",
                at,
            )
        write = BankWrite(memory, self.bank, width, self.height, self.offset, self.position)
        end = self.position + write.size
        if end + 2 > len(self.data):
            self._truncated(at)
        if self.data[end : end + 2] != b"\0\0":
            self._refuse("framing", f"no two zero bytes after the data at {at}; {_REBUILD}", at=at)
        self.position = end + 2
        self.checked = False
        self.writes.append(write)

    def _check_crc(self, at: int, stored: int) -> None:
        if self.crc_from is None:
            self._refuse("unchecked", f"the checksum is never started; {_REBUILD}", at=at)
        crc = crc_hqx(memoryview(self.data)[self.crc_from : at + 1], _CRC_INITIAL)
        if self.repair:
            assert isinstance(self.data, bytearray)  # noqa: S101 - for the type checker
            self.data[at + 1 : at + 3] = crc.to_bytes(2, "big")
        elif crc != stored:
            self._refuse(
                "crc",
                f"the checksum is {crc:04X} and the file says {stored:04X}: it was damaged or "
                "edited; send it again as icepack wrote it, or repair an intended edit with "
                "icebus.schemas.boards.bitstream.with_crc",
                expected=stored,
                got=crc,
            )
        self.checks.append((self.crc_from, at + 1))
        # The check ends a run: what is checked next starts from the value that remains.
        self.checked = True

    def _refuse(self, problem: str, message: str, **details: object) -> NoReturn:
        if len(self.data) != BITSTREAM_SIZE:
            details["size"] = len(self.data)
        raise BitstreamInvalid(message, problem=problem, **details)

    def _unknown(self, at: int) -> NoReturn:
        self._refuse(
            "command", f"unknown command {self.data[at]:02X} at byte {at}; {_REBUILD}", at=at
        )

    def _truncated(self, at: int) -> NoReturn:
        self._refuse("truncated", f"the command at byte {at} is cut off; {_REBUILD}", at=at)

    def _other_device(self, device: str, width: int, height: int) -> NoReturn:
        self._refuse(
            "device",
            f"made for an {device}: {len(self.data):,} bytes, configuration banks of {height} rows "
            f"of {width} bits; the boards have an iCE40UP5K, {_REBUILD}",
            device=device,
        )

    def _device(self, what: str, at: int) -> NoReturn:
        self._refuse("device", f"made for another device: {what}; {_REBUILD}", at=at)
