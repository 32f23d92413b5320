"""Boards on USB: what the system shows there, which of that are boards, and what was where."""

from icebus.worker.hardware.usb.discovery import UsbDiscovery
from icebus.worker.hardware.usb.port_memory import PortMemory
from icebus.worker.hardware.usb.rules import NamedBoard, UsbRules
from icebus.worker.hardware.usb.sources import Finding, open_source

__all__ = ["Finding", "NamedBoard", "PortMemory", "UsbDiscovery", "UsbRules", "open_source"]
