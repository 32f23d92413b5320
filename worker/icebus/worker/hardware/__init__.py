"""The hardware edge: finding boards, their serial ports, putting firmware on them."""

from icebus.worker.hardware.board import ConnectedBoard, Discovery
from icebus.worker.hardware.port import Port

__all__ = ["ConnectedBoard", "Discovery", "Port"]
