"""What a worker has to know of a firmware: its images, how it is recognised, how it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_image
from icebus.schemas.boards.images import VARIABLE, find_image
from icebus.schemas.errors import FirmwareUnknown
from icebus.worker.firmware._meter import Meter
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Callback, Timer


class ProbedBoard(Protocol):
    """The board that a probe is about, which takes what is found."""

    @property
    def port(self) -> Port | None:
        """The board's serial port, while that is open."""

    @property
    def chip(self) -> Chip | None:
        """The board's microcontroller, by what it shows on USB; None while it is away."""

    def after(self, seconds: float, callback: Callback) -> Timer:
        """Run ``callback`` in ``seconds``, if the answer still matters then."""

    def recognised(self) -> None:
        """Only this firmware says what the board has said; it may be busy."""

    def passed(self, version: str = "") -> None:
        """The board runs this firmware and is idle; it says of which ``version``, if it does."""

    def failed(self, reason: str) -> None:
        """The board runs this firmware, or should, and does not do what it must."""


class Probe(ABC):
    """Finds out whether a board runs one firmware and is idle.

    Args:
        board: which board.
    """

    def __init__(self, board: ProbedBoard) -> None:
        self.board = board

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Take in what the board says, asked or not."""

    @abstractmethod
    def ask(self) -> None:
        """Send what makes the firmware answer; one that speaks by itself need not be sent any."""

    @property
    def meter(self) -> Meter[Any] | None:
        """What measures for the answer, if that is how it is asked: a kind may take it over."""
        return None


class Firmware(ABC):
    """A firmware that boards may run; a package offers its own by ``icebus.firmware``.

    Attributes:
        name: as kinds and images call it.
        silent: whether it says nothing by itself. A board that says nothing is asked by the probe
            of each silent firmware in turn.
        answers_within: seconds from a question, or from the first word that gives the firmware
            away, to its being idle.
        answers_while_busy: whether it answers its question at once, whatever it is doing.
        asked_last: whether a board of which nothing is known is asked for other firmware first,
            because the question takes that some time.
        image_folders: where its images are looked for; None for where they are without a
            configuration. Set by who loads it.
    """

    name: ClassVar[str]
    silent: ClassVar[bool] = True
    answers_while_busy: ClassVar[bool] = False
    asked_last: ClassVar[bool] = False
    image_folders: Sequence[Path] | None = None

    @property
    def answers_within(self) -> float:
        """Two seconds, unless a firmware needs longer."""
        return 2.0

    @abstractmethod
    def test(self, board: ProbedBoard) -> Probe:
        """The probe of a board of which nothing is known."""

    def idle_check(self, board: ProbedBoard) -> Probe:
        """The probe of a board that ran this when it was last proved; asked again and again."""
        return self.test(board)

    def uf2(self, chip: Chip) -> bytes | None:
        """The image for real boards with that chip, if there is one.

        Unless the package brings its own, one that says of itself that it is this firmware is
        looked for in the folders of :mod:`icebus.schemas.boards.images`.
        """
        found = find_image(self.name, chip, self.image_folders)
        return None if found is None else found.data

    def image_version(self, board: ConnectedBoard) -> str:
        """Of the image that ``board`` would be given; empty where there is none, or it is unknown.

        Marker images of virtual boards are all the same.
        """
        if board.chip is None:
            return ""
        if board.takes_markers:
            return FirmwareMarker(name=self.name, chip=board.chip).version
        found = find_image(self.name, board.chip, self.image_folders)
        return "" if found is None else found.marker.version

    def image(self, board: ConnectedBoard) -> bytes:
        """The UF2 file for ``board``.

        Virtual boards are given marker images, unless they are emulated: true UF2 files that hold
        nothing but the firmware's name, under a family that real bootloaders refuse.

        Raises:
            FirmwareUnknown: there is no such image.
        """
        if board.chip is None:
            raise FirmwareUnknown(
                f"which chip the board at {board.path} has is not known, so no image of "
                f"{self.name!r} is chosen for it; say it in the worker's configuration, as `chip` "
                "in [[usb.boards]]",
                firmware=self.name,
            )
        if board.takes_markers:
            return marker_image(FirmwareMarker(name=self.name, chip=board.chip))
        image = self.uf2(board.chip)
        if image is None:
            raise FirmwareUnknown(
                f"no {self.name!r} image for {board.chip} is installed; put one into a folder that "
                f"{VARIABLE} names, or flash the board by hand: it is recognised by what it says",
                firmware=self.name,
                chip=board.chip,
            )
        return image
