"""Sharing: several RedisStores in one loop over one real Redis play as many processes."""

import asyncio
from types import TracebackType
from typing import NamedTuple

from gateway.stores.memory import MemoryStore
from gateway.stores.redis import RedisStore, Shared
from gateway.streams.stream import DEFAULT_BOUNDS
from gateway.telemetry.metrics import Metrics
from tests.redis_server import RedisServer

LONG_S = 1e6
LEASE_S = 1.5


class Told:
    """A Producer that remembers what it was told."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.readers: list[tuple[str, str, bool]] = []
        self.dead: list[str] = []
        self.outages: list[bool] = []
        self.taken: list[object] = []
        self.lost: list[str] = []
        self.outdated: list[str] = []
        self.read: set[str] = set()

    def told_to_cancel(self, sid: str) -> None:
        self.cancelled.append(sid)

    def told_of_readers(self, sid: str, process: str, *, reading: bool) -> None:
        self.readers.append((sid, process, reading))

    def told_of_death(self, process: str) -> None:
        self.dead.append(process)

    def told_of_outage(self, *, away: bool) -> None:
        self.outages.append(away)

    def superseded(self, stream: object) -> None:
        self.taken.append(stream)

    def reads(self, sid: str) -> bool:
        return sid in self.read

    def told_of_new_question(self, sid: str) -> None:
        self.outdated.append(sid)

    async def bereft(self, sid: str, *, read_here: bool) -> bool:
        self.lost.append(sid)
        return False


class Member(NamedTuple):
    """One store of several, and what it told."""

    store: RedisStore
    told: Told

    async def die(self) -> None:
        """As a process does that is killed: nothing more is written, its port is closed."""
        store = self.store
        for part in (store._flusher, store._mirrors, store._watch):
            await part.stop()
        for task in (store._lease._beating, store._chores._working):
            assert task is not None
            task.cancel()
        store.pulse.stop()
        await store._probe.close()


class Sharing:
    """A Redis and those who share it."""

    def __init__(self, server: RedisServer, *, retention_s: float = 600.0, command_s: float = 2.0) -> None:
        self.server = server
        self._retention_s = retention_s
        self._command_s = command_s
        self._members: list[Member] = []

    async def __aenter__(self) -> "Sharing":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            await member.store.stop()

    async def join(self, memory: MemoryStore | None = None) -> Member:
        """One more store."""
        shared = Shared(
            self.server.url, "contract", flush_s=0.02, command_s=self._command_s, lease_s=LEASE_S,
            accept_when_away=True, probe_host="127.0.0.1", probe_port=0,
            retention_s=self._retention_s, running_s=LONG_S,
        )  # fmt: skip
        memory = memory or MemoryStore(max_bytes=1 << 22, retention_s=self._retention_s)
        member = Member(RedisStore(memory, shared, DEFAULT_BOUNDS, reopen=lambda: None, metrics=Metrics()), Told())
        await member.store.start(member.told)
        self._members.append(member)
        return member

    async def settled(self) -> None:
        """All that was to be written is."""
        for member in self._members:
            await member.store.written()
            assert member.store.durable, "Redis was away"
            await member.store._chores.work_off()

    async def passes(self, seconds: float) -> None:
        """Time, as Redis counts it for what is to be forgotten."""
        await self.settled()
        for key in self.server.command("KEYS", "*"):
            left_ms = self.server.command("PTTL", key)
            if left_ms > 0 and ":inst:" not in key:
                self.server.command("PEXPIRE", key, int(left_ms - seconds * 1000))


async def soon(condition: object, limit_s: float = 2.0) -> None:
    """Wait until the condition, a callable that may have to be awaited, holds."""
    assert callable(condition)
    async with asyncio.timeout(limit_s):
        while True:
            held = condition()
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(0.005)
