"""Visitor: who stands at the door, as far as what it showed can be believed."""

from enum import StrEnum
from typing import NamedTuple

from gateway.admission.tenant import Tenant
from gateway.request import Caller

KEY = "key"
"""The kind of credential that a tenant's own backend shows."""


class Trust(StrEnum):
    """How far a visitor is believed about its user and session."""

    BELIEVED = "believed"
    """It speaks for whom it likes: a tenant's own backend, or whoever is on this machine."""
    PROVED = "proved"
    """Its user was proved, and its session where that was; it may not name another."""
    STRANGER = "stranger"
    """It has no user, and a session that only it can know."""


class Visitor(NamedTuple):
    """A tenant's user or session, and where it comes from."""

    tenant: Tenant
    caller: Caller
    address: str = ""
    """Its IP address, as far as proxies that are trusted say; empty where nobody says it."""
    credential: str = ""
    """What it showed, by a name that is no secret: a stream ends when that is good no more."""
    ticket: str = ""
    """The digest of the ticket that it showed; it opens one stream, and then is good for that one only."""
    bound: str = ""
    """The stream that the ticket has opened, where it has."""
    trust: Trust = Trust.BELIEVED

    def may_read_what(self, owner: Caller) -> bool:
        """Whether it may attach to, or cancel, a stream of `owner`.

        What a tenant's backend opened for nobody in particular is read by nobody but the backend, and by the tickets
        that it makes; nobody else gains anything by a ticket.
        """
        if self.trust is Trust.BELIEVED or (self.ticket and self.credential.startswith(f"{KEY}:")):
            return self.caller.may_read_what(owner)
        return self.caller.opened(owner)
