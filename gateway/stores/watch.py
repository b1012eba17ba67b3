"""Watch: looks whether the instances live on which somebody here depends, and after the streams of those that died."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.errors import Code, GatewayError
from gateway.stores.members import Membership
from gateway.stores.mirrors import Mirrors
from gateway.stores.redis_client import AWAY
from gateway.streams.store import Producer

log = logging.getLogger(__name__)

LOOK_S = 0.25
SWEEP_S = 2.0
SWEPT_AT_ONCE = 50
"""Streams of dead instances that are looked after in one sweep, so that nothing else waits for it."""


class Watch:
    """Tells `producer` of streams that are bereft, and of instances whose readers are gone with them.

    `over` is told the name and the instance of a stream that needs nobody any more.
    """

    def __init__(
        self, members: Membership, mirrors: Mirrors, producer: Producer, over: Callable[[str, str], None]
    ) -> None:
        self._members = members
        self._mirrors = mirrors
        self._producer = producer
        self._over = over
        self._swept: dict[str, set[str]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.readers_at: dict[str, str] = {}
        """Where the instances can be asked that read streams of ours."""
        self.doubtful: set[str] = set()
        """Streams that this instance may have claimed without hearing of it: nobody else would ever go on with them."""

    def start(self) -> None:
        """Look from now on."""
        self._tasks = [
            asyncio.create_task(_again(self.look, LOOK_S), name="watch"),
            asyncio.create_task(_again(self.sweep, SWEEP_S), name="sweep"),
        ]

    async def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def look(self) -> None:
        """Once: at those who make what is read here, and at those who read what is made here."""
        read: dict[tuple[str, str], list[str]] = {}
        for mirror in self._mirrors:
            if mirror.stream.readers and not mirror.stream.ended:
                read.setdefault((mirror.producer, mirror.at), []).append(mirror.stream.sid)
        for (instance, at), sids in read.items():
            if await self._members.has_left(instance, at):
                for sid in sids:
                    await self._bereft(sid, read_here=True)
        for sid in list(self.doubtful):
            if await self._bereft(sid, read_here=False):
                self.doubtful.discard(sid)
        for instance, at in list(self.readers_at.items()):
            if not await self._members.alive(instance, at):
                del self.readers_at[instance]
                self._producer.told_of_death(instance)

    async def sweep(self) -> None:
        """Once: at all that have not said goodbye, and at what those have left that are dead."""
        others = await self._members.others()
        for instance in self._swept.keys() - others.keys():
            del self._swept[instance]
        for instance, at in others.items():
            if await self._members.alive(instance, at):
                continue
            sids = await self._members.streams_of(instance)
            for sid in self._next(instance, sids):
                if await self._bereft(sid, read_here=False):
                    self._over(sid, instance)
            if not sids:
                await self._members.bury(instance)

    def _next(self, instance: str, sids: list[str]) -> list[str]:
        """Some of `sids`, each in its turn: those that wait for their readers must not keep the others from theirs."""
        swept = self._swept.setdefault(instance, set())
        some = [sid for sid in sids if sid not in swept][:SWEPT_AT_ONCE]
        swept.update(some)
        if len(some) < SWEPT_AT_ONCE:
            del self._swept[instance]
        return some

    async def _bereft(self, sid: str, *, read_here: bool) -> bool:
        """Have somebody go on with it; whether there is nothing to go on with."""
        try:
            return await self._producer.bereft(sid, read_here=read_here)
        except GatewayError as error:
            if error.code in (Code.STREAM_NOT_FOUND, Code.STREAM_EXPIRED):
                return True
            if error.code is Code.STORE_AWAY:
                # So it would be with all the others, one after the other.
                raise
            log.warning("nobody goes on with a stream: %s", error, extra={"stream_id": sid})
        return False


async def _again(look: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await look()
        except (*AWAY, GatewayError):
            log.debug("Redis is away", exc_info=True)
        except Exception:
            log.exception("a look at the other instances failed")
