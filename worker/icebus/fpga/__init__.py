"""A virtual iCE40UP5K: reads bitstreams, and counts the pulses that their circuits give.

It needs no board, rack, worker or broker::

    from icebus.fpga import simulate

    result = simulate(Path("a.bin").read_bytes(), window=1.0)
    result.pulses, result.exact, result.note

For circuits that follow the clock counts are exact to the pulse; where they are not, they say so.
:func:`inspect` tells what a bitstream uses of the FPGA and what drives the pin. Needs what
``pip install 'icebus[virtual]'`` installs.

How a bitstream becomes a count, room by room: ``_device`` knows the chip, ``_netlist`` reads the
circuit, ``_state_machine`` puts it into an order, ``_engines`` count it.
"""

from icebus.fpga._device.fabric import PINS
from icebus.fpga._inspect import BlockUse, Inspection, inspect
from icebus.fpga._simulate import SimulationResult, prepare, simulate

__all__ = ["PINS", "BlockUse", "Inspection", "SimulationResult", "inspect", "prepare", "simulate"]
