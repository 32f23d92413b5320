"""What of one's account ends soon, in words that name what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from icebus.schemas.operations.accounts import Account

SOON = timedelta(days=7)
"""How long before its end an account is warned of: time to reach whoever runs the farm."""


@dataclass(frozen=True)
class Ending:
    """Something that ends.

    Attributes:
        what: `account` or `password`.
        at: when.
        message: what ends, when, and what to do.
    """

    what: str
    at: datetime
    message: str


def endings(account: Account, login: str, now: datetime) -> list[Ending]:
    """What ends soon of somebody's account.

    Args:
        account: as the broker tells it.
        login: the name that we are logged in under.
        now: the moment to judge from.
    """
    found = []
    if (at := account.former.get(login)) is not None:
        found.append(
            Ending(
                "password",
                at,
                f"the password of {account.user} that is used here was replaced, and ends on "
                f"{at:%Y-%m-%d %H:%M} UTC: log in anew, with the profile of the machine where it "
                "was replaced or a line from whoever runs the farm",
            )
        )
    if account.expires is not None and not account.invited and account.expires < now + SOON:
        found.append(
            Ending(
                "account",
                account.expires,
                f"the account of {account.user} ends on {account.expires:%Y-%m-%d %H:%M} UTC: ask "
                f"whoever runs the farm for `icebus-broker expires {account.user} DATE`",
            )
        )
    return found
