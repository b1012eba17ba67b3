"""Flusher: writes the streams of this process down behind their back, a few times a second, many at once."""

import asyncio
import contextlib
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gateway.stores.backoff import Backoff
from gateway.stores.batch import Batch
from gateway.stores.dues import Dues
from gateway.stores.kept import Kept, Outcome
from gateway.stores.redis_client import away
from gateway.stores.redis_log import SLICE, Producer, RedisLog
from gateway.streams.stream import Stream

T = TypeVar("T")

log = logging.getLogger(__name__)

BATCH_MAX_BYTES = 256 * 1024
"""Of one round trip: what is beyond it waits for the next, and the loop has its turn in between."""

REMEMBERED_S = 60.0
"""How long after its end a stream is checked again when Redis comes back: it may have lost its last seconds."""


class Flusher:
    """Write-behind of the streams that this process makes.

    What is new is written within `flush_s`; how a stream opens, its first content and its end at once. While Redis is
    away everything goes on, streams stay dirty, and `durable` is false; when it is back, each goes on after what Redis
    has of it, or is written whole. A stream that another process has taken over is given to `on_superseded`, once.
    `on_flushed` hears of each round how many seconds it took.
    """

    def __init__(
        self,
        redis_log: RedisLog,
        producer: Producer,
        *,
        flush_s: float,
        max_bytes: int,
        on_durable: Callable[[bool], None],
        on_superseded: Callable[[Stream], None],
        on_flushed: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = redis_log
        self._producer = producer
        self._max_bytes = max_bytes
        self._on_durable = on_durable
        self._on_superseded = on_superseded
        self._on_flushed = on_flushed
        self._clock = clock
        self.with_audio = False
        """Whether speech is written too."""
        self.durable = True
        self.commands = 0
        self.written_bytes = 0
        self._kept: dict[str, Kept] = {}
        self._names: weakref.WeakKeyDictionary[Stream, tuple[str, str]] = weakref.WeakKeyDictionary()
        self._finished: weakref.WeakKeyDictionary[Stream, float] = weakref.WeakKeyDictionary()
        self._dues = Dues(flush_s)
        self._uncertain = False
        self._one_round = asyncio.Lock()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # What is to be written.

    def keep(self, stream: Stream, *, dialect: str, provider: str, flushed: int = 0) -> None:
        """Write `stream` down from now on, until it has ended and all of it is written.

        `flushed`: what stands in Redis in its epoch already, of a stream that was taken over.
        """
        self._names[stream] = (dialect, provider)
        kept = self._adopt(stream)
        kept.flushed, kept.whole = flushed, flushed == 0
        stream.attach(kept)
        if stream.head > flushed:
            self._dues.mark(kept, True)

    def forget(self, stream: Stream) -> None:
        """Write nothing more of `stream`."""
        self._names.pop(stream, None)
        self._finished.pop(stream, None)
        kept = self._kept.get(stream.sid)
        if kept is not None and kept.stream is stream:
            self._drop(kept)

    def lost_data(self) -> None:
        """Redis has lost everything: write all streams again that are still in memory, running or finished."""
        for stream in [*self._names]:
            kept = self._kept.get(stream.sid) or self._adopt(stream)
            self._follow(kept, kept.rewrite())

    @property
    def exposed(self) -> int:
        """Events that would be lost with this process. May be asked in any thread."""
        return sum(max(0, kept.stream.head - kept.flushed) for kept in [*self._kept.values()])

    def _adopt(self, stream: Stream) -> Kept:
        dialect, provider = self._names[stream]
        kept = self._kept[stream.sid] = Kept(
            stream,
            dialect=dialect,
            provider=provider,
            max_bytes=self._max_bytes,
            note=self._dues.mark,
            forget=self.forget,
        )
        return kept

    def _drop(self, kept: Kept) -> None:
        del self._kept[kept.stream.sid]
        self._dues.drop(kept)
        kept.stream.detach(kept)

    # Rounds.

    def start(self) -> None:
        """Write on by itself."""
        self._stopping = False
        self._dues.start()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Write no more by itself; `flush` still does."""
        self._stopping = True
        self._dues.stop()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def flush(self) -> None:
        """Write everything that is new. Never raises: while Redis is away it stays to be written."""
        await self._round(everything=True)

    def mistrust(self) -> None:
        """Redis may have lost what was written last: compare before more is written."""
        self._uncertain = True
        self._dues.ring()

    async def verify(self) -> None:
        """Ask Redis whose the streams are; those of others go to `on_superseded`. Raises when it is away.

        Also those that have ended but are not written down: they may have ended a moment ago, when others had them.
        """
        unwritten = [*self._kept.values()]
        held = await self._log.epochs([kept.stream.sid for kept in unwritten])
        for kept, now in zip(unwritten, held, strict=True):
            mine = (kept.stream.epoch, self._producer.instance)
            if now is None or now[0] < mine[0]:
                self._follow(kept, kept.rewrite())
            elif now != mine:
                self._follow(kept, Outcome.TAKEN)

    async def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping:
            await self._round(everything=await self._dues.wait())
            if self.durable:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next_s())
                self._dues.ring()

    async def _round(self, *, everything: bool) -> None:
        async with self._one_round:
            began = time.monotonic()
            try:
                if self._uncertain:
                    await self._resync()
                    everything = True
                await self._write_due(everything=everything)
            except Exception as error:
                self._uncertain = True
                if not away(error):
                    log.exception("streams could not be written")
                self._say_durable(False)
            except BaseException:
                self._uncertain = True
                raise
            else:
                self._say_durable(True)
            self._on_flushed(time.monotonic() - began)

    def _say_durable(self, durable: bool) -> None:
        if durable != self.durable:
            self.durable = durable
            _tell(self._on_durable, durable)

    async def _write_due(self, *, everything: bool) -> None:
        """All that is due, and once more what turned out on the way to be so: a stream that Redis has lost."""
        due = deque(self._dues.take(everything=everything))
        for _ in range(2):
            while due:
                await self._write(due)
            due.extend(self._dues.take(everything=False))

    async def _write(self, due: deque[Kept]) -> None:
        """One round trip for the first of `due`. Raises when Redis is away, or takes no writes."""
        batch = self._log.batch()
        sent: list[Kept] = []
        while due and len(batch) < SLICE and batch.size < BATCH_MAX_BYTES:
            kept = due.popleft()
            self._dues.drop(kept)
            if self._put(batch, kept):
                sent.append(kept)
        try:
            replies = await batch.send()
            self.commands += len(batch)
            self.written_bytes += batch.size
            await self._settle(sent, replies)
        except BaseException:
            # Some of it may stand in Redis, some not: it is compared before anything else is written.
            for kept in sent:
                self._follow(kept, Outcome.AWAY)
            raise

    def _put(self, batch: Batch, kept: Kept) -> bool:
        if not self._has(kept):
            return False
        try:
            return kept.put(batch, self._log, self._producer, with_audio=self.with_audio)
        except Exception:
            log.exception("a stream could not be encoded", extra={"stream_id": kept.stream.sid})
            self.forget(kept.stream)
            return False

    async def _settle(self, sent: Sequence[Kept], replies: Sequence[Any]) -> None:
        doubtful: list[Kept] = []
        refusal: Exception | None = None
        for kept, reply in zip(sent, replies, strict=True):
            outcome = kept.settle(reply)
            if outcome is Outcome.DOUBTFUL:
                doubtful.append(kept)
            elif outcome is Outcome.AWAY:
                refusal = reply
            self._follow(kept, outcome)
        await self._compare(doubtful)
        if refusal is not None:
            raise refusal

    async def _resync(self) -> None:
        """Redis may have more than we know, or less, or nothing: compare all that is not known to be on its disk."""
        await self._log.check_writes()
        self._forget_old()
        ended = [self._adopt(stream) for stream in self._finished if stream.sid not in self._kept]
        try:
            await self._compare([*self._kept.values()])
        except BaseException:
            for kept in filter(self._has, ended):
                self._drop(kept)
            raise
        self._uncertain = False

    async def _compare(self, these: Sequence[Kept]) -> None:
        sids = [kept.stream.sid for kept in these]
        held, tops = await self._log.epochs(sids), await self._log.tops(sids)
        for kept, now, top in zip(these, held, tops, strict=True):
            self._follow(kept, kept.compare(now, top, self._producer.instance))

    def _follow(self, kept: Kept, outcome: Outcome) -> None:
        """Do what an outcome asks for, unless the stream has been forgotten meanwhile."""
        if not self._has(kept):
            return
        if outcome is Outcome.AGAIN:
            self._dues.mark(kept, True)
        elif outcome is Outcome.AWAY or outcome is Outcome.DOUBTFUL:
            self._dues.mark(kept, False)
        elif outcome is Outcome.TAKEN:
            self.forget(kept.stream)
            _tell(self._on_superseded, kept.stream)
        elif outcome is Outcome.HOPELESS:
            self.forget(kept.stream)
        elif kept.complete:
            self._drop(kept)
            self._finished.setdefault(kept.stream, self._clock())
            self._forget_old()

    def _has(self, kept: Kept) -> bool:
        return self._kept.get(kept.stream.sid) is kept

    def _forget_old(self) -> None:
        until = self._clock() - REMEMBERED_S
        while self._finished:
            stream, ended_at = next(iter(self._finished.items()))
            if ended_at > until:
                return
            del self._finished[stream]


def _tell(whom: Callable[[T], None], what: T) -> None:
    """Whoever listens must not stop the writing."""
    try:
        whom(what)
    except Exception:
        log.exception("a listener failed")
