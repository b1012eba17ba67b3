"""Chores: what Redis is to know of this instance's streams beside their logs, and may learn a little later."""

import asyncio
import logging
from collections import deque

from gateway.request import Caller
from gateway.stores.backoff import Backoff
from gateway.stores.batch import Word
from gateway.stores.keys import Keys
from gateway.stores.redis_client import AWAY
from gateway.stores.redis_log import RedisLog

log = logging.getLogger(__name__)

EVERY_S = 0.2
AT_ONCE = 256
"""Commands in one round trip."""

WAITING_MAX = 20_000
"""Commands that wait while Redis is away; the oldest are dropped beyond it. All of them only make life easier."""


class Chores:
    """Which streams an instance makes and an owner has, and how long a key is kept."""

    def __init__(self, logs: RedisLog, keys: Keys, instance: str, *, kept_s: int) -> None:
        self._logs = logs
        self._keys = keys
        self._instance = instance
        self._kept_s = kept_s
        self._waiting: deque[tuple[Word, ...]] = deque(maxlen=WAITING_MAX)
        self._working: asyncio.Task[None] | None = None

    def begins(self, sid: str, owner: Caller, created_s: int) -> None:
        """This instance makes the stream, and its owner has it."""
        self.takes(sid)
        self.belongs(sid, owner, created_s)

    def belongs(self, sid: str, owner: Caller, created_s: int) -> None:
        """Its owner has the stream, whoever makes it."""
        if owner.user is not None or owner.session is not None:
            key = self._keys.mine(owner)
            self._waiting.append(("ZADD", key, created_s, sid))
            self._waiting.append(("EXPIRE", key, self._kept_s))
            # Whoever asks all day would never be rid of what is long gone.
            self._waiting.append(("ZREMRANGEBYSCORE", key, "-inf", created_s - self._kept_s))

    def takes(self, sid: str, instance: str = "") -> None:
        """This instance makes the stream, and `instance` does no longer."""
        self._waiting.append(("SADD", self._keys.streams(self._instance), sid))
        self._waiting.append(("EXPIRE", self._keys.streams(self._instance), self._kept_s))
        if instance:
            self.leaves(sid, instance)

    def leaves(self, sid: str, instance: str = "") -> None:
        """This instance, or another one, makes the stream no longer."""
        self._waiting.append(("SREM", self._keys.streams(instance or self._instance), sid))

    def orphaned(self, sid: str, owner: Caller, session: str) -> None:
        """Nobody reads it: the session may supersede it, in whatever process it asks something new."""
        key = self._keys.orphans(owner, session)
        self._waiting.append(("SADD", key, sid))
        self._waiting.append(("EXPIRE", key, self._kept_s))

    def adopted(self, sid: str, owner: Caller, session: str) -> None:
        """It is no orphan any more."""
        self._waiting.append(("SREM", self._keys.orphans(owner, session), sid))

    def expires(self, key: str, after_s: float) -> None:
        """Keep a key so long and no longer."""
        self._waiting.append(("PEXPIRE", key, int(after_s * 1000)))

    def holds(self, key: str, value: bytes, for_s: float) -> None:
        """A key that was there, unless it has been taken anew."""
        self._waiting.append(("SET", key, value, "NX", "PX", int(for_s * 1000)))

    def start(self) -> None:
        """Work them off from now on."""
        self._working = asyncio.create_task(self._work(), name="chores")

    async def stop(self) -> None:
        """Work off what is left, as far as Redis takes it."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        try:
            await self.work_off()
        except AWAY:
            log.debug("chores were left undone", exc_info=True)

    async def _work(self) -> None:
        backoff = Backoff()
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.work_off()
                backoff.reset()
            except AWAY:
                await asyncio.sleep(backoff.next_s())

    async def work_off(self) -> None:
        """All that wait. Raises what redis-py raises when Redis is away; they go on waiting then."""
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            batch = self._logs.batch()
            for command in some:
                batch.add(*command)
            try:
                await batch.send()
            except BaseException:
                self._waiting.extendleft(reversed(some))
                raise
