"""What the page is told before anybody has signed in: ``farm.json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Document(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True, frozen=True
    )


class SignInDocument(_Document):
    """Where a link is exchanged for an account, and how somebody comes by one."""

    path: str = Field(default="sign-in", description="To be asked with POST, beside the page.")
    command: str = Field(description="What prints a link, on the machine of the dashboard.")


class FarmDocument(_Document):
    """Which farm the page is for. No secrets: whoever reaches the dashboard may read it."""

    farm: str = Field(description="Its name, for people.")
    root: str = Field(description="Of its topics, without a slash at the end.")
    version: str = Field(description="Of icebus here.")
    mqtt: str = Field(default="mqtt", description="The WebSocket to its broker, beside the page.")
    sign_in: SignInDocument | None = Field(
        default=None, description="None where people sign in by name and password only."
    )
