"""RedisStore: streams in this process's memory, written behind to a Redis that other processes share."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from gateway.errors import Code, GatewayError
from gateway.events import CANCELLED
from gateway.request import Caller
from gateway.stores.batch import Batch
from gateway.stores.chores import Chores
from gateway.stores.courier import Courier
from gateway.stores.entries import BrokenEntry
from gateway.stores.flusher import Flusher
from gateway.stores.inbox import Inbox, Kind, Message
from gateway.stores.keys import Keys
from gateway.stores.lease import Lease
from gateway.stores.listing import list_streams
from gateway.stores.members import Membership
from gateway.stores.memory import MemoryStore
from gateway.stores.mirrors import Mirrors, restored
from gateway.stores.probe import Probe
from gateway.stores.pulse import Pulse
from gateway.stores.redis_client import AWAY, check_policy, connect
from gateway.stores.redis_log import CONTINUED, Found, RedisLog
from gateway.stores.redis_log import Producer as Maker
from gateway.stores.reservations import Reservations
from gateway.stores.watch import Watch
from gateway.streams.store import Producer, Summary
from gateway.streams.stream import Bounds, Stream
from gateway.telemetry.metrics import Metrics, StoreFigures

log = logging.getLogger(__name__)

T = TypeVar("T")

TOMBSTONE_S = 3600
"""How long it is known of a stream that is no longer kept that it existed."""

VERIFIED_AT_MOST, VERIFIED_AGAIN_S = 4, 0.2
"""How often Redis is asked whose the streams are, after this process stood still; nothing is said meanwhile."""

REWRITTEN_S = 15.0
"""After Redis has lost its data: for all instances to write theirs again, before a stream is called unknown."""


class Shared(NamedTuple):
    """How the store is shared. Seconds, except the names of things; see the settings of `[redis]`."""

    url: str
    prefix: str
    flush_s: float
    command_s: float
    lease_s: float
    accept_when_away: bool
    probe_host: str
    probe_port: int
    retention_s: float
    running_s: float
    """An upper bound of how long a stream can run."""


class RedisStore:
    """A `SharedStore`. Keeps its own streams in `memory`, and mirrors of others while somebody reads them."""

    def __init__(
        self, memory: MemoryStore, shared: Shared, bounds: Bounds, *, reopen: Callable[[], None], metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._memory = memory
        self._shared = shared
        self._bounds = bounds
        self._reopen = reopen
        self.instance = secrets.token_hex(8)
        self._keys = Keys(shared.prefix)
        self._clients = connect(shared.url, shared.command_s)
        commands = self._clients.commands
        running_s = int(shared.running_s + shared.retention_s)
        self._logs = RedisLog(
            commands,
            self._keys,
            command_s=shared.command_s,
            running_ttl_s=running_s,
            retention_s=max(1, int(shared.retention_s)),
            tombstone_s=TOMBSTONE_S,
        )
        self._probe = Probe(self.instance, shared.probe_host, shared.probe_port)
        self._inbox = Inbox(self._logs.courier, self._keys, self.instance)
        self._chores = Chores(self._logs, self._keys, self.instance, kept_s=running_s)
        self._reservations = Reservations(
            self._logs, self._keys, kept_s=running_s, known=lambda sid: self._memory.kept(sid) is not None
        )
        self._mirrors = Mirrors(
            self._clients.blocking,
            self._logs,
            self._keys,
            self._inbox,
            bounds=bounds,
            on_message=self._hear,
            on_renewed=self._announce_again,
        )
        self.pulse = Pulse(shared.lease_s / 2, self._on_freeze)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.durable = True

    @property
    def courier(self) -> Courier:
        """For what else is kept in the same Redis, in the same round trips."""
        return self._logs.courier

    def batch(self) -> Batch:
        """For what is better not mixed with the questions of others: a round trip of its own."""
        return self._logs.batch()

    # Its life.

    async def start(self, producer: Producer) -> None:
        """Take part from now on. Raises OSError where the probe's address is not to be had; Redis may be away."""
        self._producer = producer
        await self._probe.start()
        self._maker = Maker(self.instance, self._probe.address)
        self._lease = Lease(
            self._clients.commands,
            self._keys,
            instance=self.instance,
            address=self._probe.address,
            lease_s=self._shared.lease_s,
            command_s=self._shared.command_s,
            on_loss=self._on_loss,
            on_lapse=lambda: self._spawn(self._verify_lapsed()),
            on_relapse=lambda: self._flusher.mistrust(),
            on_missed=lambda: self._flusher.mistrust(),
        )
        self._members = Membership(self._clients.commands, self._keys, self._lease)
        self._flusher = Flusher(
            self._logs,
            self._maker,
            flush_s=self._shared.flush_s,
            max_bytes=self._bounds.max_bytes,
            on_durable=self._on_durable,
            on_superseded=self._on_superseded,
            on_flushed=self._metrics.flushed,
        )
        self._metrics.watch_store(self._figures)
        self._watch = Watch(self._members, self._mirrors, producer, self._chores.leaves)
        await self._greet()
        for part in (self._lease, self._flusher, self._chores, self._mirrors, self._watch, self.pulse):
            part.start()

    async def _greet(self) -> None:
        """Say at the start what is amiss with Redis, rather than when it is too late."""
        try:
            if not await self._lease.renew():
                log.warning("Redis is away; streams are kept in memory until it is back")
            elif warning := await check_policy(self._clients.commands):
                log.warning(warning)
        except AWAY as error:
            log.warning("Redis is away", extra={"error": repr(error)[:200]})

    async def stop(self) -> None:
        """Write what is left and say goodbye; the others need not wait for the lease to end."""
        self.pulse.stop()
        await self._watch.stop()
        await self._mirrors.stop()
        await self._flusher.stop()
        await self._flusher.flush()
        await self._chores.stop()
        await self._lease.goodbye()
        await self._probe.close()
        for task in self._tasks:
            task.cancel()
        await self._clients.aclose()

    async def check(self) -> None:
        """Raises `STORE_AWAY` when Redis does not answer."""
        await self._try(self._clients.commands.ping())

    # A LogStore.

    async def create(self, stream: Stream) -> None:
        """Keep `stream`; it is written down behind the back of whoever waits for it."""
        if not self.takes_streams:
            raise _store_away()
        await self._memory.create(stream)
        self._flusher.keep(stream, dialect=stream.dialect, provider="")
        self._chores.begins(stream.sid, stream.owner, stream.created_s)

    async def find(self, sid: str, caller: Caller) -> Stream:
        """The stream, for one who may read it, wherever it is made."""
        stream = self._here(sid)
        if stream is None:
            found = await self._found(sid)
            if found is None or (found.gone and caller.may_read_what(found.owner)):
                # Its memory knows best whether it was ours and is gone.
                return await self._gone(sid, caller, found)
            if not caller.may_read_what(found.owner):
                # By the same way, so that it takes as long as for a stream that never was.
                return await self._gone(sid, caller, None)
            stream = self._here(sid) or self._mirrors.add(found)
        if not caller.may_read_what(stream.owner):
            raise GatewayError(Code.STREAM_NOT_FOUND)
        return stream

    async def look_up(self, sid: str) -> Stream:
        """The stream, whoever owns it."""
        stream = self._here(sid)
        if stream is not None:
            return stream
        found = await self._found(sid)
        if found is None or found.gone:
            raise GatewayError(Code.STREAM_EXPIRED if found else Code.STREAM_NOT_FOUND)
        return self._here(sid) or self._mirrors.add(found)

    def _here(self, sid: str) -> Stream | None:
        stream = self._memory.kept(sid)
        if stream is not None and not stream.given_up:
            return stream
        mirror = self._mirrors.get(sid)
        return None if mirror is None else mirror.stream

    async def _found(self, sid: str) -> Found | None:
        try:
            found = await self._try(self._logs.load(sid))
            lost = found is not None and found.gone and found.running
            if found is not None and lost and await self._members.alive(found.producer, found.at):
                # Its log was lost without the rest, and is being written again.
                raise _store_away()
            return found
        except BrokenEntry as error:
            log.error("a stream cannot be read", extra={"stream_id": sid, "error": str(error)})
            raise GatewayError(Code.INTERNAL, "the log of this stream cannot be read") from None

    async def _gone(self, sid: str, caller: Caller, found: Found | None) -> Stream:
        if found is not None:
            raise GatewayError(Code.STREAM_EXPIRED)
        if self._lease.recently_lost(REWRITTEN_S) or await self._try(self._lease.is_stale()):
            # Whoever makes it is writing it down again.
            raise _store_away()
        return await self._memory.find(sid, caller)

    async def reserve(self, owner: Caller, key: str, fingerprint: bytes, sid: str) -> str | None:
        """Reserve `key` among all processes; among those of this one only, while Redis is away and may be."""
        try:
            return await self._reservations.reserve(owner, key, fingerprint, sid)
        except AWAY as error:
            if not self._shared.accept_when_away:
                raise _store_away() from error
            return self._reservations.reserve_here(owner, key, fingerprint, sid)

    async def release(self, owner: Caller, key: str) -> None:
        """Let `key` be used again."""
        try:
            await self._reservations.release(owner, key)
        except AWAY:
            log.debug("a key was not released; it ends by itself", exc_info=True)

    async def streams_of(self, caller: Caller) -> list[Summary]:
        """The caller's streams in all processes, the newest first."""
        return await self._try(list_streams(self._logs, self._keys, caller))

    def settle(self, stream: Stream) -> None:
        """Begin the retention of a stream that has ended, or is made elsewhere now."""
        if stream.given_up:
            if self._memory.kept(stream.sid) is stream:
                self._memory.forget(stream.sid)
            return
        self._memory.settle(stream)
        self._chores.leaves(stream.sid)
        key = self._reservations.settled(stream.sid)
        if key is not None:
            self._chores.expires(key, self._shared.retention_s)

    def sweep(self) -> None:
        """Let go of what has been kept long enough, and of mirrors that nobody reads; tell again who reads."""
        self._memory.sweep()
        self._mirrors.forget_unread()
        for mirror in self._mirrors:
            # What was told before may have been lost, and a stream that is read must not end as an orphan.
            self._announce_again(mirror.stream.sid)

    @property
    def bytes_kept(self) -> int:
        """Memory that all kept streams take."""
        return self._memory.bytes_kept + self._mirrors.bytes_kept

    # A SharedStore.

    @property
    def takes_streams(self) -> bool:
        """Whether new streams are accepted now."""
        return self.durable or self._shared.accept_when_away

    async def is_bereft(self, stream: Stream) -> bool:
        """Whether `stream` runs, and the instance that makes it is dead."""
        mirror = self._mirrors.get(stream.sid)
        if mirror is None or mirror.stream.ended:
            return False
        dead = await self._members.has_left(mirror.producer, mirror.at)
        # Meanwhile another instance may have taken it over.
        return dead and self._mirrors.get(stream.sid) is mirror

    async def claim(self, stream: Stream) -> Stream:
        """Become the producer of a bereft stream, or mirror whatever goes on with it."""
        sid, mirror = stream.sid, self._mirrors.get(stream.sid)
        if mirror is None or mirror.stream is not stream:
            # Somebody has taken it over since, and lives as far as is known.
            return await self.look_up(sid)
        self._memory.refuse_when_full()
        claim = self._logs.claim(
            sid, expected_producer=mirror.producer, expected_epoch=mirror.stream.epoch, producer=self._maker
        )
        # Until the answer is known: the claim may have been won without it.
        self._watch.doubtful.add(sid)
        claimed = await self._try(claim)
        if claimed.won and claimed.last == mirror.stream.head:
            heir = mirror.stream.copy(mirror.stream.lineage.succeeded(claimed.last))
            heir.aside(CONTINUED)
        else:
            found = await self._found(sid)
            if found is None or found.gone:
                self._mirrors.remove(sid)
                raise GatewayError(Code.STREAM_EXPIRED if found else Code.STREAM_NOT_FOUND)
            if not claimed.won:
                self._watch.doubtful.discard(sid)
                heir = self._mirrors.add(found)
                self._announce_again(sid)
                return heir
            heir = restored(found, self._bounds)
        if claimed.cancelled:
            heir.seal(CANCELLED)
        await self._memory.create(heir)
        self._flusher.keep(heir, dialect=heir.dialect, provider="", flushed=heir.head)
        self._watch.doubtful.discard(sid)
        self._chores.takes(sid, mirror.producer)
        self._mirrors.remove(sid, heir)
        return heir

    async def ask_to_cancel(self, stream: Stream) -> None:
        """Leave a message for the instance that makes it."""
        mirror = self._mirrors.get(stream.sid)
        if mirror is not None:
            await self._try(self._logs.note_cancel(stream.sid))
            await self._try(self._inbox.send(mirror.producer, Kind.CANCEL, stream.sid))

    def announce(self, sid: str, *, reading: bool) -> None:
        """Leave a message for the instance that makes it."""
        mirror = self._mirrors.get(sid)
        if mirror is not None and not mirror.stream.ended:
            kind = Kind.READING if reading else Kind.LEFT
            self._spawn(self._tell(mirror.producer, kind, sid))

    def orphaned(self, stream: Stream) -> None:
        """Let the stream's session know, in all processes."""
        if stream.request.session_id is not None:
            self._chores.orphaned(stream.sid, stream.owner, stream.request.session_id)

    def adopted(self, stream: Stream) -> None:
        """It is no orphan any more."""
        if stream.request.session_id is not None:
            self._chores.adopted(stream.sid, stream.owner, stream.request.session_id)

    def supersede(self, owner: Caller, session: str) -> None:
        """Leave a message for whoever makes an orphan of that session."""
        self._spawn(self._supersede(owner, session))

    async def _supersede(self, owner: Caller, session: str) -> None:
        try:
            (orphans,) = await self._logs.ask([("SMEMBERS", self._keys.orphans(owner, session))])
            sids = [sid.decode() for sid in orphans]
            for sid, made in zip(sids, await self._logs.epochs(sids), strict=True):
                if made is not None and made[1] != self.instance:
                    await self._inbox.send(made[1], Kind.SUPERSEDE, sid)
        except AWAY:
            log.debug("orphans were not superseded; they end by themselves", exc_info=True)

    async def written(self) -> None:
        """Return when all that was appended stands in Redis, or it is away."""
        await self._flusher.flush()

    def with_audio(self) -> None:
        """Write speech down too from now on: those who listen here are about to listen elsewhere."""
        self._flusher.with_audio = True

    # Told by its parts.

    def _hear(self, message: Message) -> None:
        if message.kind is Kind.CANCEL:
            self._producer.told_to_cancel(message.sid)
            return
        if message.kind is Kind.SUPERSEDE:
            self._producer.told_of_new_question(message.sid)
            return
        reading = message.kind is Kind.READING
        if reading:
            self._watch.readers_at[message.sender] = str(message.more.get("at", ""))
        self._producer.told_of_readers(message.sid, message.sender, reading=reading)

    def _announce_again(self, sid: str) -> None:
        mirror = self._mirrors.get(sid)
        if mirror is not None and self._producer.reads(sid):
            self.announce(sid, reading=True)

    def _on_durable(self, durable: bool) -> None:
        self.durable = durable
        if durable:
            self._hold_keys()
        self._producer.told_of_outage(away=not durable)

    def _on_superseded(self, stream: Stream) -> None:
        self._memory.forget(stream.sid)
        self._chores.leaves(stream.sid)
        self._producer.superseded(stream)

    def _on_loss(self) -> None:
        self._flusher.lost_data()
        for stream in self._memory.all():
            note = self._chores.belongs if stream.ended else self._chores.begins
            note(stream.sid, stream.owner, stream.created_s)
        self._hold_keys()
        self._mirrors.start_over()

    def _figures(self) -> StoreFigures:
        flusher = self._flusher
        return StoreFigures(
            commands=flusher.commands,
            written_bytes=flusher.written_bytes,
            exposed_events=flusher.exposed,
            durable=self.durable,
            mirrors=len(self._mirrors),
        )

    def _hold_keys(self) -> None:
        """Have Redis hold the keys of running streams that it lost, or that were reserved while it was away."""
        for key, value in self._reservations.held():
            self._chores.holds(key, value, self._shared.running_s + self._shared.retention_s)

    def _on_freeze(self, seconds: float) -> None:
        self._metrics.froze()
        self._spawn(self._find_out(seconds))

    async def _find_out(self, seconds: float) -> None:
        """Whose streams are ours still; only then may anything be said of them."""
        log.warning("this process stood still", extra={"seconds": round(seconds, 3)})
        try:
            if not await self._verify() and seconds >= self._shared.lease_s:
                # They may be somebody else's by now: readers are better cut off than told two stories.
                for stream in self._memory.all():
                    if not stream.ended:
                        self._flusher.forget(stream)
                        self._on_superseded(stream)
        finally:
            if self.pulse.resume():
                self._reopen()

    async def _verify(self) -> bool:
        """Give up what others make now; false if that could not be found out."""
        for _ in range(VERIFIED_AT_MOST):
            try:
                await self._flusher.verify()
            except AWAY as error:
                log.warning("cannot find out whose streams are ours", extra={"error": repr(error)[:200]})
                await asyncio.sleep(VERIFIED_AGAIN_S)
            else:
                return True
        return False

    async def _verify_lapsed(self) -> None:
        await self._verify()

    async def _tell(self, instance: str, kind: Kind, sid: str) -> None:
        try:
            await self._inbox.send(instance, kind, sid, at=self._probe.address)
        except AWAY:
            log.debug("a message was not left", exc_info=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work for the shared store failed", exc_info=error)

    async def _try(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except AWAY as error:
            raise _store_away() from error


def _store_away() -> GatewayError:
    return GatewayError(Code.STORE_AWAY, retry_after_s=1)
