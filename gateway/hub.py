"""Hub: the streams of this process, opened, found, left, cancelled, taken over, drained."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from gateway.accounting import Witness, account_for
from gateway.admission.permit import FREE, Permit
from gateway.errors import Code, GatewayError
from gateway.events import CANCELLED, DRAINING, ORPHANED, SUPERSEDED
from gateway.limits import clients_in
from gateway.pipeline import Pipeline, failed
from gateway.readership import Readership
from gateway.request import Caller, OnDisconnect, StreamRequest
from gateway.streams.ids import new_sid
from gateway.streams.lineage import EXACT, FIRST_EPOCH
from gateway.streams.store import LogStore, SharedStore, Summary
from gateway.streams.stream import Bounds, State, Stream, opened
from gateway.telemetry.logs import tell
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


Admit = Callable[[str], Awaitable[Permit]]
"""Asks the door for leave to make the stream of that name. Raises the `GatewayError` that refuses it."""


class Key(NamedTuple):
    """An idempotency key, and the fingerprint of the question that was asked under it."""

    name: str
    fingerprint: bytes


class Opening(NamedTuple):
    """What `Hub.open` gives: the stream, and whether it was made for this call or was there already."""

    stream: Stream
    fresh: bool
    permit: Permit = FREE


class Rescuer(Protocol):
    """What is done for streams that another process makes."""

    async def rescue(self, stream: Stream) -> Stream:
        """`stream`, or what goes on with it where the process that made it is gone."""

    async def cancel(self, stream: Stream) -> None:
        """Have it cancelled where it is made."""


class Work:
    """One running stream: its task and what the hub remembers about it until it ends."""

    __slots__ = ("begun", "cancelled_at", "key", "orphan_timer", "permit", "pipeline", "started", "stream", "task")

    def __init__(self, stream: Stream, pipeline: Pipeline, key: Key | None, permit: Permit) -> None:
        self.stream = stream
        self.permit = permit
        self.pipeline = pipeline
        self.key = key
        self.started = time.monotonic()
        self.begun = False
        self.cancelled_at = 0.0
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
        self._readership = Readership()
        self._shared: SharedStore | None = None
        self._rescuer: Rescuer | None = None
        self.witnesses: list[Witness] = []
        """They are told of every stream that begins and ends here."""
        self.draining = False

    def share(self, store: SharedStore, rescuer: "Rescuer") -> None:
        """Other processes share the logs: what they make is found here too, and saved by `rescuer` if they die."""
        self._shared, self._rescuer = store, rescuer

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
        admit: Admit | None = None,
        admit_s: float = 0.0,
    ) -> Opening:
        """A stream for `request`, or the one that the same idempotency `key` opened before, which asks nobody's leave.

        Raises what `admit` raises, and `DRAINING`, `OVERLOADED`, `STORE_FULL`, `STORE_AWAY`, `IDEMPOTENCY_MISMATCH`;
        a refused key is free.
        """
        sid = new_sid()
        if key is not None:
            held = await self._store.reserve(caller, key.name, key.fingerprint, sid)
            if held is not None:
                return Opening(await self.find(held, caller), fresh=False)
        permit: Permit = FREE
        try:
            self.refuse_when_full()
            if admit is not None:
                permit = await admit(sid)
            lineage = EXACT if pipeline.exact else FIRST_EPOCH
            stream = Stream(
                sid,
                request,
                caller,
                self._bounds,
                dialect=dialect,
                lineage=lineage,
                credential=permit.credential,
                clients=clients_in(permit.charge),
            )
            # Before it is kept: later the store might refuse it, and nobody would ever end the stream.
            stream.aside(opened(request))
            await self._store.create(stream)
        except BaseException:
            permit.release()
            if key is not None:
                await self._store.release(caller, key.name)
            raise
        self._supersede(caller, request.session_id)
        self.start(stream, pipeline, key, permit)
        self._metrics.stream_opened(dialect, admit_s)
        for witness in self.witnesses:
            witness.opened(stream)
        tell(log, logging.INFO, "stream opened", {"stream_id": sid, "tenant": caller.tenant, "dialect": dialect})
        return Opening(stream, True, permit)

    def start(self, stream: Stream, pipeline: Pipeline, key: Key | None = None, permit: Permit = FREE) -> Work:
        """Run `pipeline` for `stream`, which is kept already, when it is its turn."""
        work = self._running[stream.sid] = Work(stream, pipeline, key, permit)
        work.task = asyncio.create_task(self._work(work), name=f"stream {stream.sid}")
        work.task.add_done_callback(lambda _task: self._ended(work))
        return work

    async def _work(self, work: Work) -> None:
        """Run the pipeline; a key whose stream brought nothing may be used again."""
        stream = work.stream
        work.begun = True
        if stream.sealed:
            # Cancelled before this first step: the source need not even be called.
            stream.finish(work.pipeline.cancelled(stream))
        elif not work.permit.waits or await self._had_its_turn(work):
            await work.pipeline.run(stream)
        if work.key is not None and stream.ended and not stream.content_events and stream.state is not State.COMPLETED:
            await self._store.release(stream.owner, work.key.name)

    async def _had_its_turn(self, work: Work) -> bool:
        """Wait for it; where it does not come the stream has ended."""
        try:
            await work.permit.turn(work.stream)
            return True
        except asyncio.CancelledError:
            work.stream.finish(work.pipeline.cancelled(work.stream))
        except GatewayError as error:
            work.stream.finish(failed(error))
        return False

    async def find(self, sid: str, caller: Caller) -> Stream:
        """The stream of that name, for one who may read it; see `LogStore.find` for what it raises."""
        stream = await self._store.find(sid, caller)
        return stream if self._rescuer is None else await self._rescuer.rescue(stream)

    async def streams_of(self, caller: Caller) -> list[Summary]:
        """The caller's streams, see `LogStore.streams_of`."""
        return await self._store.streams_of(caller)

    @contextmanager
    def reading(self, stream: Stream) -> Iterator[None]:
        """Somebody reads `stream` while inside; when the last one leaves, it is an orphan."""
        sid = stream.sid
        if self._readership.join(sid):
            self._read_again(sid)
        try:
            yield
        finally:
            if self._readership.leave(sid):
                self._unread(sid)

    def runs(self, sid: str) -> bool:
        """Whether it is made in this process, and has not ended."""
        return sid in self._running

    def is_read(self, sid: str) -> bool:
        """Whether anybody reads it in this process."""
        return self._readership.here(sid)

    def read_elsewhere(self, sid: str, process: str, *, reading: bool) -> None:
        """Another process reads one of ours for its clients, or does so no longer."""
        if sid in self._running:
            self._readership.elsewhere(sid, process, reading=reading)
            if reading:
                self._read_again(sid)
            else:
                self._unread(sid)

    def gone(self, process: str) -> None:
        """Another process is gone, and all who read in it."""
        for sid in self._readership.gone(process):
            self._unread(sid)

    def _read_again(self, sid: str) -> None:
        work = self._running.get(sid)
        if work is not None:
            self._adopt(work)
        elif self._shared is not None:
            self._shared.announce(sid, reading=True)

    def _unread(self, sid: str) -> None:
        work = self._running.get(sid)
        if work is None:
            if self._shared is not None:
                self._shared.announce(sid, reading=False)
        elif not work.stream.ended and not self._readership.any(sid):
            self._abandon(work)

    def _abandon(self, work: Work) -> None:
        """Nobody reads it any more: its own policy says what follows."""
        request = work.stream.request
        if request.on_disconnect is OnDisconnect.DETACH:
            return
        # Whoever waited for its turn has nothing to come back to, and others wait behind it; but not whom we sent away.
        leaves_line = work.permit.waits and not self.draining
        if request.on_disconnect is OnDisconnect.CANCEL or request.grace_s == 0 or leaves_line:
            self._cancel(work, ORPHANED)
            return
        self._cancel_unread(work, request.grace_s)
        self._readership.orphaned(work.stream)
        if self._shared is not None:
            self._shared.orphaned(work.stream)

    def expect_reader(self, work: Work, within_s: float) -> None:
        """Its reader was cut off elsewhere and is on its way: grant it so much time, at least."""
        request = work.stream.request
        if request.on_disconnect is not OnDisconnect.DETACH and not self._readership.any(work.stream.sid):
            self._cancel_unread(work, max(within_s, request.grace_s))

    def _cancel_unread(self, work: Work, after_s: float) -> None:
        if work.orphan_timer is not None:
            work.orphan_timer.cancel()
        work.orphan_timer = asyncio.get_running_loop().call_later(after_s, self._cancel, work, ORPHANED)

    async def cancel(self, sid: str, caller: Caller) -> Stream:
        """End a stream as cancelled; idempotent, and without effect on one that has ended."""
        stream = await self.find(sid, caller)
        if not self.cancel_here(sid) and self._rescuer is not None:
            await self._rescuer.cancel(stream)
        return stream

    def cancel_here(self, sid: str, reason: str = CANCELLED) -> bool:
        """The same for a stream that runs in this process; whether it does."""
        work = self._running.get(sid)
        if work is not None:
            self._cancel(work, reason)
        return work is not None

    async def drain(self, limit_s: float) -> None:
        """Accept no more streams, let the running ones end for `limit_s` seconds, then cancel the rest."""
        await self.run_down(limit_s)
        for work in list(self._running.values()):
            self._cancel(work, DRAINING)
        await self._all_ended()

    async def run_down(self, limit_s: float) -> None:
        """Accept no more streams, and let the running ones end for `limit_s` seconds."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        while self._running and loop.time() < end:
            self._metrics.drain_remaining(len(self._running))
            await asyncio.wait(self._tasks(), timeout=min(1.0, max(0.01, end - loop.time())))

    def hold_all(self) -> None:
        """Append nothing more to any stream: what it says so far is what others go on with.

        Who waits for its turn, and whose client will not come back to it, is better told to ask again elsewhere.
        """
        for work in self._running.values():
            if work.permit.waits and work.stream.request.on_disconnect is OnDisconnect.CANCEL:
                self._cancel(work, DRAINING)
            work.stream.seal(DRAINING)

    async def let_go_all(self) -> None:
        """Make nothing more of any stream that is not being cancelled: other processes go on with them."""
        for work in list(self._running.values()):
            if not work.cancelled_at:
                self.let_go(work.stream)
        await self._all_ended()

    def let_go(self, stream: Stream) -> None:
        """Make nothing more of `stream`, and let its readers hear nothing more of it here."""
        stream.give_up()
        work = self._running.get(stream.sid)
        if work is not None and work.stream is stream and work.task is not None:
            work.task.cancel()

    async def _all_ended(self) -> None:
        if self._running:
            await asyncio.wait(self._tasks(), timeout=5.0)
        self._metrics.drain_remaining(len(self._running))

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [work.task for work in self._running.values() if work.task is not None]

    def refuse_when_full(self) -> None:
        """Raise `DRAINING` or `OVERLOADED` where this process takes no more streams."""
        if self.draining:
            raise GatewayError(Code.DRAINING, retry_after_s=2)
        if len(self._running) >= self._max_streams:
            raise GatewayError(Code.OVERLOADED, retry_after_s=2)

    def _adopt(self, work: Work) -> None:
        """It is no orphan, or no longer."""
        if work.orphan_timer is not None:
            work.orphan_timer.cancel()
            work.orphan_timer = None
            self._readership.adopted(work.stream)
            if self._shared is not None:
                self._shared.adopted(work.stream)

    def _supersede(self, caller: Caller, session_id: str | None) -> None:
        """The session asks something new: what it left behind unread has no reader to hope for."""
        if session_id is not None:
            for sid in self._readership.superseded(caller, session_id):
                self.cancel_here(sid, SUPERSEDED)
            if self._shared is not None:
                self._shared.supersede(caller, session_id)

    def supersede_here(self, sid: str) -> None:
        """Its session asked something new in another process."""
        work = self._running.get(sid)
        if work is not None and work.orphan_timer is not None and not self._readership.any(sid):
            self._cancel(work, SUPERSEDED)

    def making(self) -> list[tuple[Stream, Permit]]:
        """The streams that are made here now, each with the leave to make it."""
        return [(work.stream, work.permit) for work in self._running.values()]

    def permit_of(self, sid: str) -> Permit:
        """The leave with which a stream is made here; the free one where it is not."""
        work = self._running.get(sid)
        return FREE if work is None else work.permit

    def fail_where(self, doomed: Callable[[Stream, Permit], bool], error: GatewayError) -> int:
        """End as failed all streams that run here and are `doomed`; how many."""
        found = [work for work in self._running.values() if doomed(work.stream, work.permit)]
        for work in found:
            self._cancel(work, error.code.name, error)
        return len(found)

    def _cancel(self, work: Work, reason: str, error: GatewayError | None = None) -> None:
        """Seal the log, then stop the pipeline: it closes the source and appends the terminal event."""
        if work.cancelled_at or work.stream.ended or work.task is None:
            return
        work.cancelled_at = time.monotonic()
        work.stream.seal(reason, error)
        if work.begun:
            # Before its first step the task must not be cancelled: it would never take it, nor say its last word.
            work.task.cancel()

    def _ended(self, work: Work) -> None:
        """The pipeline is over, its source closed."""
        stream = work.stream
        if not stream.ended:
            # Cancelled from outside before its first step, as when the loop itself is closed.
            stream.finish(work.pipeline.cancelled(stream))
        self._adopt(work)
        if self._running.get(stream.sid) is work:
            del self._running[stream.sid]
        self._readership.ended(stream)
        self._store.settle(stream)
        self._metrics.store_bytes(self._store.bytes_kept)
        if stream.ended:
            work.permit.release()
        else:
            work.permit.hand_over()
        account = account_for(stream, work.pipeline, work.started, self._metrics)
        for witness in self.witnesses:
            witness.ended(stream, account)
        if work.cancelled_at:
            self._metrics.cancel_lag(time.monotonic() - work.cancelled_at)
        stream.forget_question()
