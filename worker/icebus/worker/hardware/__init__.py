"""The hardware edge: finding boards, their serial ports, putting firmware on them."""

from icebus.worker.hardware.board import Board, Discovery
from icebus.worker.hardware.port import Port

__all__ = ["Board", "Discovery", "Port"]
