"""iCEFARM's programming interface: a program for it runs here with its imports changed.

``from icefarm.client.drivers import PulseCountClient`` becomes
``from icebus.compat.icefarm.client.drivers import PulseCountClient``; all names are here, too.
docs/icefarm.md says name by name what differs.
"""

from icebus.compat.icefarm._circuits import batch, generate_circuit
from icebus.compat.icefarm._clients import (
    BaseClient,
    MultiPulseCountClient,
    PulseCountClient,
    VarMaxClient,
)
from icebus.compat.icefarm._evaluations import (
    Evaluation,
    EvaluationFailed,
    PulseCountEvaluation,
    Result,
    VarMaxEvaluation,
)
from icebus.compat.icefarm._events import (
    AbstractEventHandler,
    DefaultBaseEventHandler,
    Event,
    EventServer,
    LoggerEventHandler,
    ReservationExtender,
    register,
)

__all__ = [
    "AbstractEventHandler",
    "BaseClient",
    "DefaultBaseEventHandler",
    "Evaluation",
    "EvaluationFailed",
    "Event",
    "EventServer",
    "LoggerEventHandler",
    "MultiPulseCountClient",
    "PulseCountClient",
    "PulseCountEvaluation",
    "ReservationExtender",
    "Result",
    "VarMaxClient",
    "VarMaxEvaluation",
    "batch",
    "generate_circuit",
    "register",
]
