"""What users may request of the broker's own service on ``broker/call/{user}/{operation}``."""

from __future__ import annotations

from pydantic import Field

from icebus.schemas.ids import Id, Login
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
    login: Login | None = Field(
        default=None,
        description="Name to log in under with it: the user's, a dot, and letters behind it that "
        "nobody has used. The former password then stays good for a day under the name that it "
        "has. Without, it replaces the former at once.",
    )


class EndFormerArgs(Args):
    """``end_former``: have former passwords, and invitations, not count any more from now on."""


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
    login: Login | None = Field(
        default=None, description="Name to log in under with the newest password."
    )
    former: dict[Login, Timestamp] = Field(
        default_factory=dict,
        description="Names to log in under that end, and when: those of passwords that have been "
        "replaced, and of an invitation that nobody has used yet.",
    )


OPERATIONS: dict[str, tuple[type[Args], type[Message]]] = {
    "whoami": (WhoAmIArgs, Account),
    "passwd": (PasswdArgs, Account),
    "end_former": (EndFormerArgs, Account),
}
"""What users can ask of the broker: the arguments and what ``ok`` of the answer holds."""
