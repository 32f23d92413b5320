"""A second kind that measures, with arguments of its own, on a scripted worker."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from tests.client.observed import SOON
from tests.client.scripted_worker import ScriptedWorker

from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.calls import Call
from icebus.schemas.components import EventInfo, KindInfo, MethodInfo, WorkerKinds
from icebus.schemas.files import File
from icebus.schemas.ids import Id
from icebus.schemas.measuring import ANSWERS, Result, events
from icebus.schemas.message import Args
from icebus.schemas.topics import WORKER_KINDS

KIND = "frequency"


class FrequencyArgs(Args):
    """What a reservation asks for."""

    gate: float = Field(default=0.1, gt=0, le=10, description="Seconds to count for.")


class MeasurementArgs(Args):
    """What a measurement asks for."""

    repeats: int = Field(default=1, ge=1, description="Times to measure.")


class EvaluateArgs(Args):
    """Arguments of `evaluate`, as all kinds that measure have them."""

    bitstreams: list[File]
    batch: Id | None = None
    more: bool = False
    validate_: bool = Field(default=True, alias="validate")
    acknowledge: list[Id] = Field(default_factory=list)
    args: MeasurementArgs = MeasurementArgs()


class FrequencyResult(Result):
    """Event ``results``."""

    hertz: float = Field(description="On the pin.")
    resolution: float = Field(description="Hertz between two values.")
    raw: list[int] = Field(default_factory=list, json_schema_extra={"table": False})


def offer() -> KindInfo:
    """What workers publish of it."""
    methods = {
        name: MethodInfo(
            description=f"To {name}.",
            args=EvaluateArgs.model_json_schema() if name == "evaluate" else {},
            returns=answer.model_json_schema(),
        )
        for name, answer in ANSWERS.items()
    }
    told = {
        name: EventInfo(description=name, data=model.model_json_schema())
        for name, model in events(FrequencyResult).items()
    }
    return KindInfo(
        description="Hertz on a pin.",
        firmware="pulse_count",
        args=FrequencyArgs.model_json_schema(),
        methods=methods,
        events=told,
    )


class FrequencyWorker(ScriptedWorker):
    """A scripted worker whose boards tell frequencies."""

    model = FrequencyResult

    def __init__(self, broker: EmbeddedBroker, name: str) -> None:
        super().__init__(broker, name)
        self.offer()

    def offer(self, **others: KindInfo) -> None:
        """Tell what its boards can be reserved for."""
        kinds = WorkerKinds(kinds={KIND: offer(), **others})
        self.bus.publish(WORKER_KINDS(worker=self.name), kinds).result(SOON)

    def measured(self, call: Call, pulses: int) -> dict[str, Any]:
        repeats = call.args.get("args", {}).get("repeats", 1)
        return {"hertz": float(pulses), "resolution": 0.5, "raw": [pulses] * repeats}
