"""RedisSessions: conversations that all processes share, written behind the back of whoever asks."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import orjson
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.errors import Code, GatewayError
from gateway.request import Caller
from gateway.sessions import Exchange, SessionBounds, fitted, trimmed
from gateway.stores.backoff import Backoff
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.redis_client import AWAY, away
from gateway.stores.roster import Roster
from gateway.stores.scripts import Script
from gateway.stores.shelf import Shelf

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Conversations in one round trip."""

LAST_TRIES_S = (0.0, 0.1, 0.3)
"""Pauses before each attempt to write what is left when the process ends."""

Name = tuple[Caller, str]


class RedisSessions:
    """A SessionStore over Redis. What waits to be written takes `memory_bytes` at most; beyond it the oldest is lost.

    It waits for as long as Redis is away. A turn may be sent twice where an answer was lost, and stands there once.
    """

    def __init__(self, courier: Courier, keys: Keys, bounds: SessionBounds, *, memory_bytes: int) -> None:
        self._courier = courier
        self._keys = keys
        self._bounds = bounds
        self._waiting: Shelf[Name, list[Exchange]] = Shelf(
            max_values=bounds.max_sessions, max_bytes=memory_bytes, ttl_s=bounds.ttl_s, owner_of=_tenant
        )
        self._roster = Roster(keys.sessions, max_names=bounds.max_sessions, ttl_s=bounds.ttl_s)
        self._remember = Script("remember")
        self._writing: asyncio.Task[None] | None = None

    async def read(self, owner: Caller, session: str) -> list[Exchange]:
        """What was said, with what is still to be written here."""
        key = self._keys.session(owner, session)
        (reply,) = await ask(self._courier, lambda batch: batch.add("LRANGE", key, 0, -1))
        written = [turn for turn in map(_decode, reply or ()) if turn is not None]
        known = {turn.sid for turn in written}
        return trimmed(
            [*written, *(turn for turn in self.unwritten(owner, session) if turn.sid not in known)], self._bounds
        )

    def write(self, owner: Caller, session: str, exchange: Exchange) -> None:
        """Add a turn as soon as can be."""
        name = (_owner(owner), session)
        turns = [*(self._waiting.get(name) or ()), fitted(exchange, self._bounds.max_bytes)]
        self._wait(name, trimmed(turns, self._bounds))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="write sessions")
            self._writing.add_done_callback(self._written)

    def unwritten(self, owner: Caller, session: str) -> list[Exchange]:
        """What waits."""
        return list(self._waiting.get((_owner(owner), session)) or ())

    async def delete(self, owner: Caller, session: str) -> bool:
        """Forget it, here and there. What was on its way to Redis before has arrived there before."""
        key = self._keys.session(owner, session)
        waited = self._waiting.pop((_owner(owner), session)) is not None

        def put(batch: Batch) -> None:
            batch.add("UNLINK", key)
            batch.add("ZREM", self._keys.sessions, key)
            batch.add("ZREM", self._keys.sessions_of(owner.tenant), key)

        gone, *_ = await ask(self._courier, put)
        return bool(gone) or waited

    async def close(self) -> None:
        """Write what is left, a few times where Redis does not take it."""
        if self._writing is not None:
            self._writing.cancel()
        for pause_s in LAST_TRIES_S:
            await asyncio.sleep(pause_s)
            with suppress(*AWAY):
                while self._waiting:
                    await self._write_some()
                return
        log.warning("conversations were not written down", extra={"sessions": len(self._waiting)})

    def _wait(self, name: Name, turns: list[Exchange]) -> None:
        self._waiting.put(name, turns, sum(turn.size for turn in turns))

    async def _write(self) -> None:
        backoff = Backoff()
        try:
            while self._waiting:
                try:
                    await self._write_some()
                    backoff.reset()
                except AWAY as error:
                    if backoff.fresh:
                        log.warning("conversations wait for Redis", extra={"error": repr(error)[:200]})
                    await asyncio.sleep(backoff.next_s())
        finally:
            # In the step in which nothing waits: whoever writes next must not take this for somebody who still looks.
            self._writing = None

    def _written(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("conversations could not be written", exc_info=error)

    async def _write_some(self) -> None:
        """The oldest that wait. Raises what redis-py raises; they go on waiting then."""
        some = self._waiting.oldest(AT_ONCE)
        turns = [(name, turn) for name, waiting in some for turn in waiting]

        def put(batch: Batch) -> None:
            for (owner, session), turn in turns:
                batch.run(self._remember, [self._keys.session(owner, session)], self._words(turn))
            for (owner, session), _ in some:
                self._roster.note(batch, self._keys.session(owner, session), self._keys.sessions_of(owner.tenant))

        replies = await self._courier.carry(put)
        raise_away(replies)
        for reply in replies[: len(turns)]:
            if isinstance(reply, Exception):
                log.error("Redis refuses a turn of a conversation: %s", reply)
        for name, waiting in some:
            self._settle(name, {turn.sid for turn in waiting})
        surplus = replies[len(turns) :]
        if any(surplus):
            await self._courier.carry(lambda batch: self._roster.forget(batch, surplus))

    def _words(self, turn: Exchange) -> list[str | bytes | int]:
        bounds = self._bounds
        return [turn.sid, _encode(turn), bounds.max_turns, bounds.max_bytes, int(bounds.ttl_s * 1000)]

    def _settle(self, name: Name, written: set[str]) -> None:
        """These turns wait no longer; others may have come meanwhile."""
        left = [turn for turn in self._waiting.pop(name) or () if turn.sid not in written]
        if left:
            self._wait(name, left)


async def ask(courier: Courier, put: Callable[[Batch], None]) -> list[Any]:
    """The answers to commands that may be sent twice, nothing in place of one that was refused. Raises `STORE_AWAY`."""
    try:
        try:
            replies = await courier.carry(put)
        except RedisConnectionError:
            # A connection that broke is no outage.
            replies = await courier.carry(put)
        raise_away(replies)
    except AWAY as error:
        raise GatewayError(Code.STORE_AWAY, retry_after_s=1) from error
    for reply in replies:
        if isinstance(reply, Exception):
            log.error("Redis refuses: %s", reply)
    return [None if isinstance(reply, Exception) else reply for reply in replies]


def raise_away(replies: Sequence[Any]) -> None:
    """Raise an answer that says that Redis cannot do now what it is there for."""
    for reply in replies:
        if isinstance(reply, Exception) and away(reply):
            raise reply


def _tenant(name: Name) -> str:
    return name[0].tenant


def _owner(owner: Caller) -> Caller:
    return Caller(owner.tenant, owner.user)


def _encode(turn: Exchange) -> bytes:
    """The name of its stream, then the rest as JSON."""
    return turn.sid.encode() + orjson.dumps(turn[1:])


def _decode(entry: bytes) -> Exchange | None:
    """None for what is no turn: another version may have written it."""
    sid, bracket, rest = entry.partition(b"[")
    try:
        question, answer, asked_s, answered_s = orjson.loads(bracket + rest)
        return Exchange(sid.decode(), str(question), str(answer), int(asked_s), int(answered_s))
    except (ValueError, TypeError):
        log.error("a turn of a conversation cannot be read")
        return None
