"""A worker's configuration: a TOML file, over which the options of ``icebus-worker`` win."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from icebus.bus import BrokerAddress
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Port
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Id, Serial
from icebus.schemas.message import Args, invalid
from icebus.worker.device.device import CHECK_EVERY
from icebus.worker.firmware import FirmwarePolicy
from icebus.worker.hardware.usb import Finding, NamedBoard, UsbRules
from icebus.worker.labels import Labels

REFERENCE: Final = "docs/worker.md has all keys"

LabelsTable = dict[str, str]


def _without_nul(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("no path has a character NUL")
    return path


AnyPath = Annotated[Path, AfterValidator(_without_nul)]


class UsbBoard(Args):
    """What is said of one port or serial: a table ``[[usb.boards]]``."""

    port: Port | None = Field(default=None, description="USB port path, such as `1-1.2`.")
    serial: Serial | None = Field(
        default=None, description="USB serial of the application; one of both is needed."
    )
    chip: Chip | None = Field(
        default=None,
        description="`rp2040` (pico-ice) or `rp2350` (pico2-ice), where the board does not say.",
    )
    owned: bool = Field(
        default=False,
        description="Whatever is there is a board, also what shows itself as somebody's Pico: it "
        "is opened, and flashed.",
    )
    labels: LabelsTable = Field(default_factory=dict, description="Of the board, for selectors.")

    @model_validator(mode="after")
    def _of_one_thing(self) -> Self:
        if (self.port is None) == (self.serial is None):
            raise ValueError("name a port or a serial, one of both")
        return self


class Usb(Args):
    """The table ``[usb]``."""

    enabled: bool | None = Field(
        default=None,
        description="Whether boards on USB are owned; if not said, where no rack is named.",
    )
    finding: Finding = Field(
        default=Finding.AUTO,
        description="How they are found: by `udev`, by `polling` the serial ports (which sees no "
        "bootloader), or `auto`, which takes udev where there is one.",
    )
    only: tuple[Serial | Port, ...] = Field(
        default=(),
        description="Ports (with all that is behind them) and serials to take; if empty, all.",
    )
    exclude: tuple[Serial | Port, ...] = Field(
        default=(), description="Ports (with all that is behind them) and serials to leave alone."
    )
    boards: tuple[UsbBoard, ...] = Field(default=(), description="What is said of single boards.")

    @field_validator("boards")
    @classmethod
    def _each_named_once(cls, boards: tuple[UsbBoard, ...]) -> tuple[UsbBoard, ...]:
        names = [each.port or each.serial for each in boards]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} has two tables; put what they say into one")
        return boards

    @property
    def rules(self) -> UsbRules:
        """As discovery takes it."""
        return UsbRules(
            frozenset(self.only),
            frozenset(self.exclude),
            tuple(
                NamedBoard(each.port, each.serial, each.chip, each.owned, each.labels)
                for each in self.boards
            ),
        )


class FirmwareTable(Args):
    """The table ``[firmware]``."""

    folders: tuple[AnyPath, ...] = Field(
        default=(),
        description="Folders of images, looked into before what came with the package. "
        "`ICEBUS_FIRMWARE` wins.",
    )

    def check(self) -> None:
        """Look whether the folders are there: without one, boards would not get what is in it.

        Raises:
            InvalidRequest: one is missing, or no folder.
        """
        for folder in self.folders:
            if not folder.is_dir():
                raise InvalidRequest(
                    f"firmware.folders names {folder}, which is no folder here; {REFERENCE}"
                )


class Configuration(Args):
    """The whole file."""

    broker: str | None = Field(
        default=None,
        description="The worker's credentials file, or `mqtt://worker:password@host:port`. A URL "
        "holds a password: keep the file to yourself (mode 0600), or leave it in `ICEBUS_BROKER`.",
    )
    racks: tuple[AnyPath, ...] = Field(
        default=(), description="Directories of racks of virtual boards to own."
    )
    directory: AnyPath | None = Field(
        default=None, description="Where journals are kept; the same at every start."
    )
    kinds: tuple[Id, ...] | None = Field(
        default=None,
        description="What its devices may be reserved for; if not said, all installed.",
    )
    labels: LabelsTable = Field(
        default_factory=dict, description="Of all its devices, for selectors."
    )
    port_labels: dict[Port, LabelsTable] = Field(
        default_factory=dict, description="Of what is plugged into a port, of a rack or on USB."
    )
    probe_every: Annotated[float, Field(ge=0)] = Field(
        default=CHECK_EVERY,
        description="Seconds between checks of a board that nobody uses, about; 0 for never.",
    )
    firmware_policy: FirmwarePolicy = Field(
        default=FirmwarePolicy.KEEP,
        description="`keep`: firmware on boards that serves is used as it is. `upgrade`: boards "
        "are flashed with what is preferred, or a newer version of it, when nobody holds them.",
    )
    verbose: bool = Field(default=False, description="Log details.")
    usb: Usb = Field(default_factory=Usb, description="Boards on USB.")
    firmware: FirmwareTable = Field(
        default_factory=FirmwareTable, description="What boards are given."
    )

    @field_validator("usb")
    @classmethod
    def _labels_of_boards(cls, usb: Usb) -> Usb:
        for each in usb.boards:
            _labels(each.labels, {})
        return usb

    @field_validator("broker")
    @classmethod
    def _is_a_broker(cls, broker: str | None) -> str | None:
        if broker is not None:
            try:
                BrokerAddress.parse(broker)
            except InvalidRequest as error:
                raise ValueError(error.message) from None
        return broker

    @field_validator("labels")
    @classmethod
    def _labels_are_labels(cls, labels: LabelsTable) -> LabelsTable:
        _labels(labels, {})
        return labels

    @field_validator("port_labels")
    @classmethod
    def _port_labels_are_labels(cls, ports: dict[Port, LabelsTable]) -> dict[Port, LabelsTable]:
        _labels({}, ports)
        return ports

    @property
    def owns_usb(self) -> bool:
        """Whether boards on USB are owned."""
        return not self.racks if self.usb.enabled is None else self.usb.enabled

    def all_labels(self) -> Labels:
        """What devices are labelled with, as far as it does not depend on their serials."""
        return _labels(self.labels, self.port_labels)


def read_configuration(path: Path | None, options: Mapping[str, Any]) -> Configuration:
    """The configuration in a file, with what options say instead.

    Paths in the file are relative to its folder.

    Args:
        path: of the file; None for no file.
        options: top-level keys and what is to stand there; tables are joined.

    Raises:
        InvalidRequest: it can't be read, or is not what it should be; the message says where.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"can't read the configuration {path}: {error}") from None
        except (ValueError, RecursionError) as error:  # of syntax, or of numbers and depths
            raise InvalidRequest(f"the configuration {path} is no TOML: {error}") from None
        _validated(content, f"the configuration {path}")
        content = _beside(content, path.parent)
    return _validated(_joined(content, options), "what the options say")


def _validated(content: dict[str, Any], what: str) -> Configuration:
    try:
        return Configuration.model_validate(content)
    except ValidationError as error:
        wrong = invalid(error, what)
        raise InvalidRequest(f"{wrong.message}; {REFERENCE}", **wrong.details) from None


def _beside(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    beside = {**content, "racks": [folder / each for each in content.get("racks", [])]}
    if content.get("directory") is not None:
        beside["directory"] = folder / content["directory"]
    firmware = content.get("firmware", {})
    folders = [folder / each for each in firmware.get("folders", [])]
    return {**beside, "firmware": {**firmware, "folders": folders}}


def _joined(content: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(content)
    for key, value in options.items():
        known = joined.get(key)
        both = isinstance(known, dict) and isinstance(value, Mapping)
        joined[key] = _joined(known, value) if both and known is not None else value
    return joined


def _labels(everywhere: LabelsTable, ports: Mapping[str, LabelsTable]) -> Labels:
    try:
        return Labels.parse(
            [f"{name}={value}" for name, value in everywhere.items()],
            [f"{port}:{name}={value}" for port in ports for name, value in ports[port].items()],
        )
    except InvalidRequest as error:
        raise ValueError(error.message) from None
