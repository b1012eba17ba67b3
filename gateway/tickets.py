"""Tickets: what a browser shows that cannot set headers; and the few verbs of their keeper."""

from typing import NamedTuple, Protocol

TICKETS_MAX = 50_000
"""That wait to be used, and as many used ones. Beyond it no more are made, and of used ones the oldest are let go."""

TICKETS_SHARE = TICKETS_MAX // 5
"""The most that one tenant has of either: what a page of one tenant asks for must not be what another's cannot have."""


class Ticket(NamedTuple):
    """For whom a ticket was made, by what (`credential`, a name that is no secret), and the one stream that it opened.

    `sid` is empty until then.
    """

    tenant: str
    user: str | None
    session: str | None
    credential: str
    sid: str = ""


class TicketStore(Protocol):
    """Keeps tickets by the digests of what their holders show, for a short time until they are used.

    A used one is kept as long as its stream may be.
    """

    async def keep(self, digest: str, ticket: Ticket) -> None:
        """Keep a new one. Raises `OVERLOADED` where too many wait, of all or of its tenant's, and `STORE_AWAY`."""

    async def find(self, digest: str) -> Ticket | None:
        """The ticket, while it is good. Raises `STORE_AWAY`."""

    async def redeem(self, digest: str, sid: str) -> str | None:
        """Bind the ticket to the stream `sid`, unless it is bound already; the stream that it is bound to.

        Atomic among all who share it: of several that come at once one is told its own. None where the ticket is not
        good any more. Raises `STORE_AWAY`.
        """

    async def release(self, digest: str, sid: str) -> None:
        """The stream `sid` did not come to be: a ticket bound to it is unused again. Raises `STORE_AWAY`."""
