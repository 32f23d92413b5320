"""Reservations that are offered to another user, who accepts or declines."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from icebus.schemas.ids import Id
from icebus.schemas.message import Args, Message, Natural, Timestamp

OFFER_DURATION = 3600.0
"""Seconds that an offer stands when the request does not say."""

LONGEST_OFFER = 7 * 86_400.0
"""Seconds that an offer stands at most; one of a reservation that is over ends with it."""


class OfferEnd(StrEnum):
    """Why an offer is over, when it was not accepted."""

    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    ENDED = "ended"
    USER_REMOVED = "user_removed"


class Offer(Message):
    """To whom a reservation is offered; until they accept it is its holder's in every way."""

    to: Id
    until: Timestamp = Field(description="When the offer expires.")


class TransferArgs(Args):
    """``transfer``: offer a reservation to another user; it is detached from then on."""

    reservation: Id
    user: Id | None = Field(default=None, description="Who is to have it; null withdraws an offer.")
    wait: float = Field(
        default=OFFER_DURATION,
        gt=0,
        le=LONGEST_OFFER,
        description="Seconds that the offer stands, at most.",
    )


class AcceptArgs(Args):
    """``accept``: take a reservation that is offered to who asks, as far as limits allow."""

    reservation: Id


class DeclineArgs(Args):
    """``decline``: refuse a reservation that is offered to who asks."""

    reservation: Id


class Offered(Message):
    """``offered``: somebody wants to give this reservation away; told to who is to have it."""

    reservation: Id
    user: Id = Field(description="Whose it is.")
    kind: Id
    devices: Natural = Field(description="How many it holds; none while it is queued.")
    until: Timestamp = Field(description="When the offer expires.")


class OfferEnded(Message):
    """``offer_ended``: an offer was not accepted; told to both, and the reason says why."""

    reservation: Id
    user: Id = Field(description="To whom it was offered.")
    reason: OfferEnd


class Transferred(Message):
    """``transferred``: the reservation is somebody else's; told to who had it."""

    reservation: Id
    user: Id
