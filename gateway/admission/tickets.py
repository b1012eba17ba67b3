"""Tickets, at the door: made for a browser that cannot set headers, and good for one stream."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from gateway.admission.permit import Permit
from gateway.admission.visitor import Trust, Visitor
from gateway.errors import Code, GatewayError
from gateway.request import STRANGERS
from gateway.tickets import Ticket, TicketStore

Admit = Callable[[str], Awaitable[Permit]]
"""Asks for leave to make the stream of that name."""

TICKET_S = 30.0
"""Until it is used: the time that a page takes to open its EventSource, with room for a slow network."""

_BYTES = 32
_SESSION_BYTES = 16
_LONGEST = 128


class TicketUsedError(Exception):
    """The ticket has opened the stream `sid` already, and is good for that one only."""

    def __init__(self, sid: str) -> None:
        super().__init__("the ticket is used")
        self.sid = sid


class Issued(NamedTuple):
    """A new ticket, which is shown once, and the session that it is for."""

    ticket: str
    session: str


class Tickets:
    """Makes them and knows them again. Only their digests are kept."""

    def __init__(self, store: TicketStore) -> None:
        self._store = store

    async def issue(self, visitor: Visitor) -> Issued:
        """A ticket for what `visitor` is; a session is made for it where it has none. Raises `STORE_AWAY`.

        Whoever shows a ticket itself gets none, or thirty seconds would last for ever: see `Callers.visitor`.
        """
        ticket = secrets.token_urlsafe(_BYTES)
        caller = visitor.caller
        session = caller.shown_session or secrets.token_urlsafe(_SESSION_BYTES)
        kept = STRANGERS + session if visitor.trust is Trust.STRANGER else session
        await self._store.keep(_digest(ticket), Ticket(caller.tenant, caller.user, kept, visitor.credential))
        return Issued(ticket, session)

    async def find(self, shown: str) -> tuple[str, Ticket] | None:
        """The ticket that was shown, with the digest by which it is known from here on. Raises `STORE_AWAY`."""
        if len(shown) > _LONGEST:
            return None
        digest = _digest(shown)
        ticket = await self._store.find(digest)
        return None if ticket is None else (digest, ticket)

    async def bind(self, digest: str, sid: str) -> None:
        """Use the ticket for the stream `sid`. Raises `TicketUsedError` where it is another's, `UNAUTHENTICATED` where
        its time is over, and `STORE_AWAY`.
        """
        bound = await self._store.redeem(digest, sid)
        if bound is None:
            raise GatewayError(Code.UNAUTHENTICATED, headers={"WWW-Authenticate": "Bearer"})
        if bound != sid:
            raise TicketUsedError(bound)

    @asynccontextmanager
    async def used_by(self, digest: str, admit: Admit) -> AsyncIterator[Admit]:
        """While a stream is opened with the ticket: `admit`, which uses the ticket first.

        What fails before there is a stream leaves the ticket unused. Raises inside what `bind` and `admit` raise.
        """
        bound = ""

        async def with_ticket(sid: str) -> Permit:
            nonlocal bound
            # Before it is asked for: who is broken off while the store answers may have used it all the same.
            bound = sid
            await self.bind(digest, sid)
            return await admit(sid)

        try:
            yield with_ticket
        except BaseException as error:
            if bound and not isinstance(error, TicketUsedError):
                with suppress(GatewayError):
                    await self._store.release(digest, bound)
            raise


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()
