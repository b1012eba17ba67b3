"""Visitor: who stands at the door, as far as what it showed can be believed."""

from dataclasses import dataclass

from gateway.admission.tenant import Tenant
from gateway.request import Caller


@dataclass(frozen=True, slots=True)
class Visitor:
    """A tenant's user or session, and where it comes from."""

    tenant: Tenant
    caller: Caller
    address: str = ""
    """Its IP address, as far as proxies that are trusted say; empty where nobody says it."""
    credential: str = ""
    """What it showed, by a name that is no secret: a stream ends when that is good no more."""
    ticket: str = ""
    """The digest of the ticket that it showed; it opens one stream, and then is good for that one only."""
