"""Where iCEFARM has its helpers."""

from icebus.compat.icefarm._circuits import batch, generate_circuit

__all__ = ["batch", "generate_circuit"]
