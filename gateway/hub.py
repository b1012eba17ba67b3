"""Hub: the streams of this process, opened, found, left, cancelled, drained."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from gateway.errors import Code, GatewayError
from gateway.events import CANCELLED, DRAINING, ORPHANED, SUPERSEDED, Failed
from gateway.pipeline import Pipeline, usage_of
from gateway.request import Caller, OnDisconnect, StreamRequest
from gateway.streams.ids import new_sid
from gateway.streams.store import LogStore
from gateway.streams.stream import Bounds, State, Stream, opened
from gateway.telemetry.logs import tell
from gateway.telemetry.metrics import Account, Metrics

log = logging.getLogger(__name__)

_OUTCOME_OF_REASON = {ORPHANED: "caller_disconnect", SUPERSEDED: "caller_disconnect", DRAINING: "gateway_drain"}
_OUTCOME_OF_CODE = {
    Code.UPSTREAM_TRUNCATED.name: "provider_truncated",
    Code.OUTPUT_LIMIT.name: "policy_limit",
    Code.STORE_FULL.name: "gateway_error",
    Code.INTERNAL.name: "gateway_error",
}


class Key(NamedTuple):
    """An idempotency key, and the fingerprint of the question that was asked under it."""

    name: str
    fingerprint: bytes


class Opening(NamedTuple):
    """What `Hub.open` gives: the stream, and whether it was made for this call or was there already."""

    stream: Stream
    fresh: bool


class Work:
    """One running stream: its task and what the hub remembers about it until it ends."""

    __slots__ = (
        "begun",
        "cancelled_at",
        "dialect",
        "key",
        "orphan_timer",
        "pipeline",
        "readers",
        "started",
        "stream",
        "task",
    )

    def __init__(self, stream: Stream, pipeline: Pipeline, dialect: str, key: Key | None) -> None:
        self.stream = stream
        self.pipeline = pipeline
        self.dialect = dialect
        self.key = key
        self.started = time.monotonic()
        self.begun = False
        self.cancelled_at = 0.0
        self.readers = 0
        self.orphan_timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class Hub:
    """Runs pipelines. A stream belongs to the hub from `open` on, whatever becomes of those who read it."""

    def __init__(self, store: LogStore, *, bounds: Bounds, max_streams: int, metrics: Metrics) -> None:
        self._store = store
        self._bounds = bounds
        self._max_streams = max_streams
        self._metrics = metrics
        self._running: dict[str, Work] = {}
        self._orphans: dict[tuple[Caller, str], set[str]] = {}
        self.draining = False

    @property
    def running(self) -> int:
        """Streams without a terminal event."""
        return len(self._running)

    async def open(
        self,
        request: StreamRequest,
        caller: Caller,
        pipeline: Pipeline,
        *,
        dialect: str,
        key: Key | None = None,
        admit_s: float = 0.0,
    ) -> Opening:
        """A stream for `request`, or the one that the same idempotency `key` opened before.

        Raises `DRAINING`, `OVERLOADED`, `STORE_FULL`, `IDEMPOTENCY_MISMATCH`. A refused key is free again.
        """
        sid = new_sid()
        if key is not None:
            held = await self._store.reserve(caller, key.name, key.fingerprint, sid)
            if held is not None:
                return Opening(await self._store.find(held, caller), fresh=False)
        try:
            self._refuse_when_full()
            stream = Stream(sid, request, caller, self._bounds)
            # Before it is kept: later the store might refuse it, and nobody would ever end the stream.
            stream.append([opened(request)])
            await self._store.create(stream)
        except GatewayError:
            if key is not None:
                await self._store.release(caller, key.name)
            raise
        self._supersede(caller, request.session_id)
        work = self._running[sid] = Work(stream, pipeline, dialect, key)
        work.task = asyncio.create_task(self._work(work), name=f"stream {sid}")
        work.task.add_done_callback(lambda _task: self._ended(work))
        self._metrics.stream_opened(dialect, admit_s)
        tell(log, logging.INFO, "stream opened", {"stream_id": sid, "tenant": caller.tenant, "dialect": dialect})
        return Opening(stream, fresh=True)

    async def _work(self, work: Work) -> None:
        """Run the pipeline; a key whose stream brought nothing may be used again."""
        stream = work.stream
        work.begun = True
        if stream.sealed:
            # Cancelled before this first step: the source need not even be called.
            stream.finish(work.pipeline.cancelled(stream))
        else:
            await work.pipeline.run(stream)
        if work.key is not None and not stream.content_events and stream.state is not State.COMPLETED:
            await self._store.release(stream.owner, work.key.name)

    async def find(self, sid: str, caller: Caller) -> Stream:
        """The stream of that name, for one who may read it; see `LogStore.find` for what it raises."""
        return await self._store.find(sid, caller)

    @contextmanager
    def reading(self, stream: Stream) -> Iterator[None]:
        """Somebody reads `stream` while inside; when the last one leaves, it is an orphan."""
        work = self._running.get(stream.sid)
        if work is None:
            yield
            return
        work.readers += 1
        self._adopt(work)
        try:
            yield
        finally:
            work.readers -= 1
            if not work.readers and not stream.ended:
                self._abandon(work)

    def _abandon(self, work: Work) -> None:
        """Nobody reads it any more: its own policy says what follows."""
        request = work.stream.request
        if request.on_disconnect is OnDisconnect.DETACH:
            return
        if request.on_disconnect is OnDisconnect.CANCEL or request.grace_s == 0:
            self._cancel(work, ORPHANED)
            return
        loop = asyncio.get_running_loop()
        work.orphan_timer = loop.call_later(request.grace_s, self._cancel, work, ORPHANED)
        if request.session_id is not None:
            self._orphans.setdefault((work.stream.owner, request.session_id), set()).add(work.stream.sid)

    async def cancel(self, sid: str, caller: Caller) -> Stream:
        """End a stream as cancelled; idempotent, and without effect on one that has ended."""
        stream = await self._store.find(sid, caller)
        work = self._running.get(sid)
        if work is not None and not stream.ended:
            self._cancel(work, CANCELLED)
        return stream

    async def drain(self, limit_s: float) -> None:
        """Accept no more streams, let the running ones end for `limit_s` seconds, then cancel the rest."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while self._running and loop.time() < end:
            self._metrics.drain_remaining(len(self._running))
            await asyncio.wait(self._tasks(), timeout=min(1.0, max(0.01, end - loop.time())))
        for work in list(self._running.values()):
            self._cancel(work, DRAINING)
        if self._running:
            await asyncio.wait(self._tasks(), timeout=5.0)
        self._metrics.drain_remaining(len(self._running))

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [work.task for work in self._running.values() if work.task is not None]

    def _refuse_when_full(self) -> None:
        if self.draining:
            raise GatewayError(Code.DRAINING, retry_after_s=2)
        if len(self._running) >= self._max_streams:
            raise GatewayError(Code.OVERLOADED, retry_after_s=2)

    def _adopt(self, work: Work) -> None:
        """It is no orphan, or no longer."""
        if work.orphan_timer is not None:
            work.orphan_timer.cancel()
            work.orphan_timer = None
            self._forget_orphan(work.stream)

    def _supersede(self, caller: Caller, session_id: str | None) -> None:
        """The session asks something new: what it left behind unread has no reader to hope for."""
        if session_id is None:
            return
        for sid in self._orphans.pop((caller, session_id), set()):
            work = self._running.get(sid)
            if work is not None:
                self._cancel(work, SUPERSEDED)

    def _forget_orphan(self, stream: Stream) -> None:
        if stream.request.session_id is None:
            return
        name = (stream.owner, stream.request.session_id)
        orphans = self._orphans.get(name, set())
        orphans.discard(stream.sid)
        if not orphans:
            self._orphans.pop(name, None)

    def _cancel(self, work: Work, reason: str) -> None:
        """Seal the log, then stop the pipeline: it closes the source and appends the terminal event."""
        if work.cancelled_at or work.stream.ended or work.task is None:
            return
        work.cancelled_at = time.monotonic()
        work.stream.seal(reason)
        if work.begun:
            # Before its first step the task must not be cancelled: it would never take it, nor say its last word.
            work.task.cancel()

    def _ended(self, work: Work) -> None:
        """The pipeline is over, its source closed."""
        stream = work.stream
        if not stream.ended:
            # Cancelled from outside before its first step, as when the loop itself is closed.
            stream.finish(work.pipeline.cancelled(stream))
        if work.orphan_timer is not None:
            work.orphan_timer.cancel()
        self._running.pop(stream.sid, None)
        self._forget_orphan(stream)
        self._store.settle(stream)
        self._metrics.store_bytes(self._store.bytes_kept)
        self._account(work)
        stream.forget_question()

    def _account(self, work: Work) -> None:
        """Exactly one record of usage and one line in the log for each stream."""
        stream, metrics = work.stream, self._metrics
        now, usage = time.monotonic(), usage_of(stream)
        account = Account(
            work.dialect,
            work.pipeline.source.name,
            outcome_of(stream),
            error_of(stream),
            now - work.started,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.reported,
        )
        metrics.stream_ended(account)
        if not stream.content_events:
            metrics.no_first_token(account.outcome)
        elif usage.completion_tokens > 1 and work.pipeline.first_content_at:
            metrics.output(account.provider, usage.completion_tokens - 1, now - work.pipeline.first_content_at)
        if stream.late_events:
            metrics.late_events(stream.late_events)
        if work.cancelled_at:
            metrics.cancel_lag(now - work.cancelled_at)
        facts = {**account._asdict(), "stream_id": stream.sid, "tenant": stream.owner.tenant, "events": stream.head}
        if isinstance(stream.terminal, Failed):
            tell(log, logging.ERROR, "stream failed", facts)
        else:
            tell(log, logging.INFO, "stream ended", facts)


def outcome_of(stream: Stream) -> str:
    """How a stream ended, from the closed set of the metric `ssegw_stream_outcomes_total`."""
    terminal = stream.terminal
    if isinstance(terminal, Failed):
        if terminal.code == Code.UPSTREAM_TIMEOUT.name:
            return "provider_timeout_idle" if stream.content_events else "provider_timeout_first"
        return _OUTCOME_OF_CODE.get(terminal.code, "provider_error")
    if stream.state is State.COMPLETED:
        return "ok"
    return _OUTCOME_OF_REASON.get(stream.seal_reason, "caller_cancel")


def error_of(stream: Stream) -> str:
    """The label `error_type`: the code of a failure, empty where there was none."""
    return stream.terminal.code if isinstance(stream.terminal, Failed) else ""
