"""Which source of USB devices is used."""

from __future__ import annotations

import logging
from enum import StrEnum

from icebus.schemas.errors import InvalidRequest
from icebus.worker.hardware.usb.polling import PollingSource
from icebus.worker.hardware.usb.usb_device import UsbSource

log = logging.getLogger(__name__)


class Finding(StrEnum):
    """How boards on USB are found."""

    AUTO = "auto"
    UDEV = "udev"
    POLLING = "polling"


def open_source(finding: Finding) -> UsbSource:
    """The source to use: udev where there is one, else the list of serial ports, again and again.

    Raises:
        InvalidRequest: udev is asked for, and there is none.
    """
    if finding is Finding.POLLING:
        return PollingSource()
    try:
        # Where there is no udev, pyudev is not installed, or finds no library of it.
        from icebus.worker.hardware.usb.udev import UdevSource

        return UdevSource()
    except (ImportError, OSError) as error:
        if finding is Finding.UDEV:
            raise InvalidRequest(
                f"there is no udev here ({error}); install pyudev and libudev, or find boards by "
                "polling"
            ) from None
        log.info("no udev here (%s): serial ports are looked for every second", error)
        return PollingSource()
