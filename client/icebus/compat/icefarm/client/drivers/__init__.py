"""Where iCEFARM has the clients that one uses."""

from icebus.compat.icefarm.client.drivers.MultiPulseCountClient import MultiPulseCountClient
from icebus.compat.icefarm.client.drivers.PulseCountClient import PulseCountClient
from icebus.compat.icefarm.client.drivers.VarMaxClient import VarMaxClient

__all__ = ["MultiPulseCountClient", "PulseCountClient", "VarMaxClient"]
