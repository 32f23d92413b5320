"""What worker and client have in common."""

from pydantic import Field

from icebus.schemas.measuring import Result

KIND = "frequency"


class FrequencyResult(Result):
    """Event ``results``: one bitstream measured on one device."""

    hertz: float = Field(ge=0, description="Rising edges a second on pin ICE_27.")
    resolution: float = Field(gt=0, description="Hertz between two counts.")
