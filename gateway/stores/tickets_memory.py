"""MemoryTickets: tickets of one process."""

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import Code, GatewayError
from gateway.tickets import TICKETS_MAX, TICKETS_SHARE, Ticket


class _Kept:
    """Tickets in the order in which their times end, which is that in which they come; and so those of each tenant."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, tuple[float, Ticket]] = OrderedDict()
        self._of: dict[str, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def count_of(self, tenant: str) -> int:
        """How many are its own."""
        return len(self._of.get(tenant, ()))

    def oldest(self) -> str:
        """The one whose time ends first. Raises StopIteration where there is none."""
        return next(iter(self._all))

    def oldest_of(self, tenant: str) -> str:
        """The same of its own."""
        return next(iter(self._of[tenant]))

    def put(self, digest: str, until: float, ticket: Ticket) -> None:
        """As the newest; it is not there yet."""
        self._all[digest] = (until, ticket)
        self._of.setdefault(ticket.tenant, OrderedDict())[digest] = None

    def get(self, digest: str) -> Ticket | None:
        """The ticket, if it is there."""
        found = self._all.get(digest)
        return None if found is None else found[1]

    def pop(self, digest: str) -> Ticket:
        """The ticket, which is there no more."""
        _, ticket = self._all.pop(digest)
        own = self._of[ticket.tenant]
        del own[digest]
        if not own:
            del self._of[ticket.tenant]
        return ticket

    def sweep(self, now: float) -> None:
        """Those whose time is over go."""
        while self._all and next(iter(self._all.values()))[0] <= now:
            self.pop(self.oldest())


class MemoryTickets:
    """A TicketStore for one process: `unused_s` until a ticket is used, `used_s` from then on; about 600 bytes each."""

    def __init__(
        self,
        *,
        unused_s: float,
        used_s: float,
        most: int = TICKETS_MAX,
        share: int = TICKETS_SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unused_s = unused_s
        self._used_s = used_s
        self._most = most
        self._share = share
        self._clock = clock
        self._unused = _Kept()
        self._used = _Kept()

    async def keep(self, digest: str, ticket: Ticket) -> None:
        """Keep a new one; `OVERLOADED` where too many wait to be used, of all or of its tenant."""
        self._sweep()
        if len(self._unused) >= self._most or self._unused.count_of(ticket.tenant) >= self._share:
            raise GatewayError(Code.OVERLOADED, retry_after_s=self._unused_s)
        self._unused.put(digest, self._clock() + self._unused_s, ticket)

    async def find(self, digest: str) -> Ticket | None:
        """The ticket, while it is good."""
        self._sweep()
        return self._unused.get(digest) or self._used.get(digest)

    async def redeem(self, digest: str, sid: str) -> str | None:
        """Bind the ticket to `sid`, or name the stream that it is bound to. No await inside, hence atomic."""
        self._sweep()
        if self._unused.get(digest) is not None:
            ticket = self._unused.pop(digest)
            self._used.put(digest, self._clock() + self._used_s, ticket._replace(sid=sid))
            if self._used.count_of(ticket.tenant) > self._share:
                self._used.pop(self._used.oldest_of(ticket.tenant))
            if len(self._used) > self._most:
                self._used.pop(self._used.oldest())
        found = self._used.get(digest)
        return found.sid if found is not None else None

    async def release(self, digest: str, sid: str) -> None:
        """Let a ticket that is bound to `sid` be used again, for as long as an unused one is."""
        found = self._used.get(digest)
        if found is not None and found.sid == sid:
            ticket = self._used.pop(digest)
            self._unused.put(digest, self._clock() + self._unused_s, ticket._replace(sid=""))

    def _sweep(self) -> None:
        now = self._clock()
        self._unused.sweep(now)
        self._used.sweep(now)
