"""RedisTickets: tickets that all processes know which share a Redis."""

from typing import Any

import orjson

from gateway.errors import Code, GatewayError
from gateway.stores.batch import Word
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.scripts import Script
from gateway.stores.sessions_redis import ask
from gateway.tickets import TICKETS_MAX, TICKETS_SHARE, Ticket


class RedisTickets:
    """A TicketStore over Redis: `unused_s` until a ticket is used, `used_s` from then on."""

    def __init__(
        self,
        courier: Courier,
        keys: Keys,
        *,
        unused_s: float,
        used_s: float,
        most: int = TICKETS_MAX,
        share: int = TICKETS_SHARE,
    ) -> None:
        self._courier = courier
        self._keys = keys
        self._unused_ms = int(unused_s * 1000)
        self._used_ms = int(used_s * 1000)
        self._most = most
        self._share = share
        self._issue, self._redeem, self._unredeem = Script("issue"), Script("redeem"), Script("unredeem")

    async def keep(self, digest: str, ticket: Ticket) -> None:
        """Keep a new one; `OVERLOADED` where too many wait to be used, of all or of its tenant. Raises `STORE_AWAY`."""
        made_for = orjson.dumps(tuple(ticket._replace(sid="")))
        names = [self._keys.ticket(digest), self._keys.tickets_unused]
        if not await self._run(self._issue, names, made_for, self._unused_ms, self._most, self._share, ticket.tenant):
            raise GatewayError(Code.OVERLOADED, retry_after_s=self._unused_ms / 1000)

    async def find(self, digest: str) -> Ticket | None:
        """The ticket, while it is good. Raises `STORE_AWAY`."""
        name = self._keys.ticket(digest)
        (reply,) = await ask(self._courier, lambda batch: batch.add("HMGET", name, "for", "sid"))
        return _decode(*reply) if reply else None

    async def redeem(self, digest: str, sid: str) -> str | None:
        """Bind the ticket to `sid`, or name the stream that it is bound to. Raises `STORE_AWAY`."""
        bound = await self._run(self._redeem, self._names(digest), sid, self._used_ms, self._most, self._share)
        return bound.decode() if isinstance(bound, bytes) else None

    async def release(self, digest: str, sid: str) -> None:
        """Let a ticket that is bound to `sid` be used again. Raises `STORE_AWAY`."""
        await self._run(self._unredeem, self._names(digest), sid, self._unused_ms)

    def _names(self, digest: str) -> list[str]:
        return [self._keys.ticket(digest), self._keys.tickets_unused, self._keys.tickets_used]

    async def _run(self, script: Script, names: list[str], *words: Word) -> Any:
        (reply,) = await ask(self._courier, lambda batch: batch.run(script, names, words))
        return reply


def _decode(made_for: bytes | None, sid: bytes | None) -> Ticket | None:
    """None for what is none: another version may have written it."""
    if made_for is None or sid is None:
        return None
    try:
        return Ticket(*orjson.loads(made_for))._replace(sid=sid.decode())
    except (ValueError, TypeError):
        return None
