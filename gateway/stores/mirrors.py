"""Mirrors: streams that other instances make, copied here as they grow, all through one connection."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from gateway.events import Record
from gateway.stores.backoff import Backoff
from gateway.stores.entries import BrokenEntry, Entry, parse_entry
from gateway.stores.inbox import Inbox, Kind, Message, parse
from gateway.stores.keys import Keys
from gateway.stores.redis_client import AWAY
from gateway.stores.redis_log import Found, RedisLog
from gateway.streams.lineage import Lineage
from gateway.streams.stream import Bounds, Stream

log = logging.getLogger(__name__)

BLOCK_MS = 1000
"""The longest that one read waits; a Redis that is frozen is noticed a little later than this."""

ANSWER_S = 1.0
"""Beyond `BLOCK_MS`, for the answer to arrive."""

GATHER_S = 0.01
"""Between two reads: what comes meanwhile comes in one answer."""


class Mirror:
    """One stream of another instance, and how far it is copied."""

    __slots__ = ("at", "last_id", "producer", "stream", "unread")

    def __init__(self, stream: Stream, found: Found) -> None:
        self.stream = stream
        self.producer = found.producer
        self.at = found.at
        last = found.entries[-1] if found.entries else None
        self.last_id = f"{last.epoch}-{last.last}" if last is not None else "0-0"
        self.unread = False


class Mirrors:
    """Reads all mirrors and this instance's inbox with one `XREAD BLOCK`; never a connection for each reader.

    `on_message` is told what others left in the inbox, `on_renewed` the name of a mirror whose stream another instance
    makes now.
    """

    def __init__(
        self,
        blocking: Redis,
        logs: RedisLog,
        keys: Keys,
        inbox: Inbox,
        *,
        bounds: Bounds,
        on_message: Callable[[Message], None],
        on_renewed: Callable[[str], None],
    ) -> None:
        self._blocking = blocking
        self._logs = logs
        self._keys = keys
        self._inbox = inbox
        self._bounds = bounds
        self._on_message = on_message
        self._on_renewed = on_renewed
        self._mirrors: dict[str, Mirror] = {}
        self._sids: dict[bytes, str] = {}
        self._inbox_id = inbox.start_id()
        self._waiting = self._woken = False
        self._connection: AbstractConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waking: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._mirrors)

    def __iter__(self) -> Iterator[Mirror]:
        return iter(list(self._mirrors.values()))

    @property
    def bytes_kept(self) -> int:
        """Memory that all mirrors take."""
        return sum(mirror.stream.bytes + mirror.stream.request_bytes for mirror in self._mirrors.values())

    def get(self, sid: str) -> Mirror | None:
        """The mirror of that name."""
        return self._mirrors.get(sid)

    def add(self, found: Found) -> Stream:
        """Copy a stream from now on; the readers of an older copy go on in the new one."""
        old = self._mirrors.get(found.sid)
        stream = restored(found, self._bounds)
        stream.mirrored = True
        self._mirrors[found.sid] = Mirror(stream, found)
        self._sids[self._keys.log(found.sid).encode()] = found.sid
        if old is not None:
            old.stream.give_up(stream)
        if found.running:
            self._wake(found.sid)
        return stream

    def remove(self, sid: str, successor: Stream | None = None) -> None:
        """Copy it no longer; its readers go on in `successor`, if there is one."""
        mirror = self._mirrors.pop(sid, None)
        if mirror is not None:
            del self._sids[self._keys.log(sid).encode()]
            mirror.stream.give_up(successor)

    def forget_unread(self) -> None:
        """Let go of those that nobody read when this was last called either: the reader of a new one is on its way."""
        for sid, mirror in list(self._mirrors.items()):
            if mirror.unread and not mirror.stream.readers:
                self.remove(sid)
            mirror.unread = not mirror.stream.readers

    # Reading.

    def start(self) -> None:
        """Read from now on."""
        self._reading = asyncio.create_task(self._read(), name="mirrors")

    async def stop(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._hang_up()

    async def _read(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self.poll(BLOCK_MS)
                backoff.reset()
                await asyncio.sleep(GATHER_S)
            except AWAY as error:
                if backoff.fresh:
                    log.warning("Redis cannot be read", extra={"error": repr(error)[:200]})
                await self._hang_up()
                await asyncio.sleep(backoff.next_s())
            except Exception:
                log.exception("a read of Redis failed")
                await self._hang_up()
                await asyncio.sleep(backoff.next_s())

    async def poll(self, block_ms: int) -> None:
        """One read. Raises what redis-py raises when Redis is away."""
        running = {key: sid for key, sid in self._sids.items() if not self._mirrors[sid].stream.ended}
        ids = [self._mirrors[sid].last_id for sid in running.values()]
        self._waiting, self._woken = True, False
        try:
            reply = await self._ask(block_ms, [self._inbox.key.encode(), *running], [self._inbox_id, *ids])
        finally:
            self._waiting = False
        for key, entries in reply.items():
            if key in running:
                await self._copy(running[key], entries)
            else:
                self._hear(entries)

    async def _ask(self, block_ms: int, keys: list[bytes], ids: list[str]) -> Mapping[bytes, Any]:
        # Over all of it: a Redis that hangs may do so while it is greeted as well.
        async with asyncio.timeout(block_ms / 1000 + ANSWER_S):
            if self._connection is None:
                self._connection = await self._blocking.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # its decorator
            await self._connection.send_command("XREAD", "BLOCK", block_ms, "STREAMS", *keys, *ids)
            reply = await self._connection.read_response(timeout=float("inf"))
        return dict(reply or {})

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._blocking.connection_pool.release(connection)

    def _hear(self, entries: list[Any]) -> None:
        for entry_id, fields in entries:
            self._inbox_id = entry_id.decode()
            message = parse(dict(zip(fields[::2], fields[1::2], strict=False)))
            if message is not None and message.kind is not Kind.WAKE:
                self._on_message(message)

    async def _copy(self, sid: str, entries: list[Any]) -> None:
        mirror = self._mirrors.get(sid)
        try:
            for entry_id, fields in entries:
                if mirror is None:
                    return
                entry = parse_entry(entry_id, fields)
                if not _follows(entry, mirror.stream):
                    await self.renew(sid)
                    return
                mirror.last_id = entry_id.decode()
                new = [record.event for record in entry.records(after=mirror.stream.head)]
                if new:
                    mirror.stream.receive(new, entry.poured)
        except BrokenEntry as error:
            log.error("a stream cannot be read", extra={"stream_id": sid, "error": str(error)})
            self.remove(sid)

    async def renew(self, sid: str) -> Stream | None:
        """Copy a stream anew, which goes on in another epoch or was written again; None where it is not to be had."""
        found = await self._logs.load(sid)
        if found is None or found.gone:
            return None
        stream = self.add(found)
        self._on_renewed(sid)
        return stream

    def _wake(self, sid: str) -> None:
        """A read that waits does not know of a new mirror: a message to ourselves ends it."""
        if self._waiting and not self._woken:
            self._woken = True
            task = asyncio.create_task(self._send_wake(sid), name="wake")
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def _send_wake(self, sid: str) -> None:
        try:
            await self._inbox.wake(sid)
        except AWAY:
            # The read ends by itself within a second.
            log.debug("no message to ourselves")

    def start_over(self) -> None:
        """Redis has lost its data, and the inbox with it."""
        self._inbox_id = self._inbox.start_id()


def restored(found: Found, bounds: Bounds) -> Stream:
    """The stream as it stands in Redis."""
    lineage = Lineage(found.epoch, found.ends, found.exact)
    stream = Stream(
        found.sid,
        found.request,
        found.owner,
        bounds,
        dialect=found.dialect,
        lineage=lineage,
        created_s=found.created_s,
        credential=found.credential,
        clients=found.clients,
    )
    older, exact, first, head = list[Record](), list[Record](), found.entries[0].first, found.entries[0].first - 1
    lost = head
    for entry in found.entries:
        if entry.first > head + 1:
            # Redis lost some in the middle: the words behind them make no sense without those before.
            older, exact, first, lost = [], [], entry.first, entry.first - 1
        exact += entry.records(after=head)
        if entry.folded and entry.last > head:
            # From here on back places are missing, and so nothing of it can be counted through.
            older, exact, first = older + exact, [], entry.last + 1
        head = max(head, entry.last)
    events = [record.event for record in exact]
    stream.load(older, first, events, lost=lost, poured=found.entries[-1].poured)
    return stream


def _follows(entry: Entry, stream: Stream) -> bool:
    """Whether `entry` goes on where `stream` ends, in the same epoch, or repeats what it has."""
    if entry.epoch != stream.epoch or entry.first > stream.head + 1:
        return False
    # A folded piece stands for several places, of which a log can have none but at its beginning.
    return not entry.folded or entry.last <= stream.head
