"""MemoryTickets: tickets of one process."""

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import Code, GatewayError
from gateway.tickets import TICKETS_MAX, Ticket


class MemoryTickets:
    """A TicketStore for one process: `unused_s` until a ticket is used, `used_s` from then on; about 600 bytes each."""

    def __init__(
        self,
        *,
        unused_s: float,
        used_s: float,
        most: int = TICKETS_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unused_s = unused_s
        self._used_s = used_s
        self._most = most
        self._clock = clock
        self._unused: OrderedDict[str, tuple[float, Ticket]] = OrderedDict()
        self._used: OrderedDict[str, tuple[float, Ticket]] = OrderedDict()

    async def keep(self, digest: str, ticket: Ticket) -> None:
        """Keep a new one; `OVERLOADED` where too many wait to be used."""
        self._sweep()
        if len(self._unused) >= self._most:
            raise GatewayError(Code.OVERLOADED, retry_after_s=self._unused_s)
        self._unused[digest] = (self._clock() + self._unused_s, ticket)

    async def find(self, digest: str) -> Ticket | None:
        """The ticket, while it is good."""
        self._sweep()
        _, ticket = self._unused.get(digest) or self._used.get(digest) or (0.0, None)
        return ticket

    async def redeem(self, digest: str, sid: str) -> str | None:
        """Bind the ticket to `sid`, or name the stream that it is bound to. No await inside, hence atomic."""
        self._sweep()
        if digest in self._unused:
            _, ticket = self._unused.pop(digest)
            self._used[digest] = (self._clock() + self._used_s, ticket._replace(sid=sid))
            if len(self._used) > self._most:
                self._used.popitem(last=False)
        found = self._used.get(digest)
        return found[1].sid if found is not None else None

    async def release(self, digest: str, sid: str) -> None:
        """Let a ticket that is bound to `sid` be used again, for as long as an unused one is."""
        found = self._used.get(digest)
        if found is not None and found[1].sid == sid:
            del self._used[digest]
            self._unused[digest] = (self._clock() + self._unused_s, found[1]._replace(sid=""))

    def _sweep(self) -> None:
        """Both are in the order in which their times end."""
        now = self._clock()
        for kept in (self._unused, self._used):
            while kept and next(iter(kept.values()))[0] <= now:
                kept.popitem(last=False)
