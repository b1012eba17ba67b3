"""A shared store as a double: what other processes made, who of them is dead, and what was asked of it."""

import asyncio
from typing import Any

from gateway.errors import Code, GatewayError
from gateway.events import Event, Opened, Status
from gateway.request import Caller
from gateway.stores.memory import MemoryStore
from gateway.streams.ids import new_sid
from gateway.streams.lineage import FIRST_EPOCH, Lineage
from gateway.streams.store import Summary
from gateway.streams.stream import Stream
from tests.doubles import ALICE, question


class ScriptedStore:
    """A `SharedStore` of which the test says who is dead and who is faster. `asked` is all that was asked of it."""

    def __init__(self) -> None:
        self.memory = MemoryStore(max_bytes=1 << 24, retention_s=600)
        self.durable = True
        self.takes_streams = True
        self.mirrors: dict[str, Stream] = {}
        self.dead: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.looks: asyncio.Event | None = None
        self.claims: asyncio.Event | None = None
        self.faster: dict[str, Stream] = {}
        self.at_written: list[tuple[str, bool]] = []

    def mirror(self, *events: Event, lineage: Lineage = FIRST_EPOCH, owner: Caller = ALICE, **asked: Any) -> Stream:
        """A stream of another process, which is copied here."""
        stream = Stream(new_sid(), question(**asked), owner, lineage=lineage, dialect="native")
        stream.mirrored = True
        stream.receive([Opened("m")], 0)
        for event in events:
            stream.receive([event], stream.poured + 1)
        self.mirrors[stream.sid] = stream
        return stream

    def said(self, verb: str) -> list[str]:
        """What was asked with this verb, in order."""
        return [about for name, about in self.asked if name == verb]

    # A LogStore.

    async def create(self, stream: Stream) -> None:
        await self.memory.create(stream)

    async def find(self, sid: str, caller: Caller) -> Stream:
        return self.mirrors.get(sid) or await self.memory.find(sid, caller)

    async def reserve(self, owner: Caller, key: str, fingerprint: bytes, sid: str) -> str | None:
        return await self.memory.reserve(owner, key, fingerprint, sid)

    async def release(self, owner: Caller, key: str) -> None:
        await self.memory.release(owner, key)

    async def streams_of(self, caller: Caller) -> list[Summary]:
        return await self.memory.streams_of(caller)

    def settle(self, stream: Stream) -> None:
        self.asked.append(("settle", stream.sid))
        self.memory.settle(stream)

    def sweep(self) -> None:
        self.memory.sweep()

    @property
    def bytes_kept(self) -> int:
        return self.memory.bytes_kept

    # A SharedStore.

    async def check(self) -> None:
        """It answers."""

    async def look_up(self, sid: str) -> Stream:
        stream = self.mirrors.get(sid) or self.memory.kept(sid)
        if stream is None:
            raise GatewayError(Code.STREAM_NOT_FOUND)
        return stream

    async def is_bereft(self, stream: Stream) -> bool:
        mirror = self.mirrors.get(stream.sid)
        found = mirror is not None and not mirror.ended and stream.sid in self.dead
        if self.looks is not None:
            await self.looks.wait()
        return found

    async def claim(self, stream: Stream) -> Stream:
        self.asked.append(("claim", stream.sid))
        if self.claims is not None:
            await self.claims.wait()
        mirror = self.mirrors.get(stream.sid)
        if mirror is None:
            return await self.look_up(stream.sid)
        heir = self.faster.get(stream.sid)
        if heir is None:
            heir = continued(mirror)
            await self.memory.create(heir)
            del self.mirrors[stream.sid]
        else:
            self.mirrors[stream.sid] = heir
        self.dead.discard(stream.sid)
        mirror.give_up(heir)
        return heir

    async def ask_to_cancel(self, stream: Stream) -> None:
        self.asked.append(("ask_to_cancel", stream.sid))

    def orphaned(self, stream: Stream) -> None:
        self.asked.append(("orphaned", stream.sid))

    def adopted(self, stream: Stream) -> None:
        self.asked.append(("adopted", stream.sid))

    def supersede(self, owner: Caller, session: str) -> None:
        self.asked.append(("supersede", session))

    def announce(self, sid: str, *, reading: bool) -> None:
        self.asked.append(("reading" if reading else "left", sid))

    async def written(self) -> None:
        self.at_written = [(stream.sid, stream.sealed) for stream in self.memory._streams.values()]
        self.asked.append(("written", ""))


def continued(stream: Stream) -> Stream:
    """The log with which its next producer begins: all that was said, and `continued`."""
    heir = Stream(
        stream.sid,
        stream.request,
        stream.owner,
        lineage=stream.lineage.succeeded(stream.head),
        dialect=stream.dialect,
        created_s=stream.created_s,
    )
    heir.load((), 1, stream.events(), lost=0, poured=stream.poured)
    heir.aside(Status("continued"))
    return heir
