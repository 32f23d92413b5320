"""What users may request of the broker's own service on ``broker/call/{user}/{operation}``."""

from __future__ import annotations

from pydantic import Field

from icebus.schemas.ids import Id
from icebus.schemas.message import Args, Message, Timestamp


class WhoAmIArgs(Args):
    """``whoami``: what the broker knows of whoever asks; takes nothing."""


class PasswdArgs(Args):
    """``passwd``: have another password from now on; an invitation becomes an account by it."""

    password: str = Field(
        min_length=16,
        max_length=256,
        pattern=r"^[!-~]+$",
        description="Random, printable ASCII: nobody has to remember it.",
    )


class Account(Message):
    """Who somebody is at the broker."""

    user: Id
    role: str = Field(description="A role of the broker's, such as `user`.")
    invited: bool = Field(
        default=False, description="Whether it may do nothing yet but choose a password."
    )
    expires: Timestamp | None = Field(
        default=None, description="When the account ends, or the invitation; null for never."
    )


OPERATIONS: dict[str, tuple[type[Args], type[Message]]] = {
    "whoami": (WhoAmIArgs, Account),
    "passwd": (PasswdArgs, Account),
}
"""What users can ask of the broker: the arguments and what ``ok`` of the answer holds."""
