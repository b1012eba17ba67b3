"""Tickets at the door: what is left of one whose opening breaks off."""

import asyncio

import pytest

from gateway.admission.permit import FREE, Permit
from gateway.admission.tickets import Tickets, TicketUsedError
from gateway.stores.tickets_memory import MemoryTickets
from gateway.tickets import Ticket


class SlowTickets(MemoryTickets):
    """A store that has done what it was asked for long before it says so; `released` is what it was asked to free."""

    def __init__(self) -> None:
        super().__init__(unused_s=30, used_s=600)
        self.asked = asyncio.Event()
        self.says_so = asyncio.Event()
        self.released: list[str] = []

    async def redeem(self, digest: str, sid: str) -> str | None:
        """At once, and told later."""
        bound = await super().redeem(digest, sid)
        self.asked.set()
        await self.says_so.wait()
        return bound

    async def release(self, digest: str, sid: str) -> None:
        """Noted."""
        self.released.append(sid)
        await super().release(digest, sid)


async def admit(sid: str) -> Permit:
    """Anybody."""
    return FREE


async def opens(tickets: Tickets, sid: str) -> None:
    """An opening with the ticket."""
    async with tickets.used_by("digest", admit) as admit_once:
        await admit_once(sid)


async def test_a_ticket_whose_opening_breaks_off_while_it_is_used_may_be_used_again() -> None:
    """A browser that lost its connection comes back with the same URL, and must not find its ticket spent."""
    store = SlowTickets()
    tickets = Tickets(store)
    await store.keep("digest", Ticket("acme", "alice", None, "key:acme:0"))
    opening = asyncio.create_task(opens(tickets, "one"))
    await store.asked.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    store.says_so.set()
    await opens(tickets, "two")
    found = await store.find("digest")
    assert found is not None
    assert found.sid == "two"


async def test_a_ticket_that_is_another_streams_is_left_to_it() -> None:
    """Whoever came second gives back nothing."""
    store = SlowTickets()
    store.says_so.set()
    tickets = Tickets(store)
    await store.keep("digest", Ticket("acme", "alice", None, "key:acme:0"))
    await opens(tickets, "one")
    with pytest.raises(TicketUsedError):
        await opens(tickets, "two")
    assert store.released == []
    found = await store.find("digest")
    assert found is not None
    assert found.sid == "one"
