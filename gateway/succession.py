"""Succession: streams outlive the process that makes them; another one that shares their logs goes on with them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.admission.permit import FREE, Permit
from gateway.errors import Code, GatewayError
from gateway.events import NOT_DURABLE, Event
from gateway.hub import Hub
from gateway.pipeline import Pipeline, failed
from gateway.request import OnDisconnect, StreamRequest
from gateway.streams.store import SharedStore
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

WRITTEN_AGAIN_S = (0.0, 0.1, 0.3, 0.6)
"""Pauses before each attempt to write what is to be handed over: a connection that broke is no outage."""

AWAITED_S = 5.0
"""How long an unread stream whose process is gone waits for its client to come back, at least: its client was cut off
and did not leave."""


class Succession:
    """What this process does for the streams of others, and what others tell it of its own (`Producer`).

    `revive` makes the pipeline that goes on with a request, `adopt` the leave to do so: the stream keeps its slots, or
    waits on for its turn. It raises the `GatewayError` with which a stream ends that may not go on.
    """

    def __init__(
        self,
        hub: Hub,
        store: SharedStore,
        *,
        revive: Callable[[StreamRequest], Pipeline],
        tell_readers: Callable[[Event], None],
        metrics: Metrics,
        adopt: Callable[[Stream], Permit] = lambda stream: FREE,
    ) -> None:
        self._hub = hub
        self._store = store
        self._revive = revive
        self._tell_readers = tell_readers
        self._metrics = metrics
        self._adopt = adopt
        self._taking: dict[str, asyncio.Task[Stream]] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Wait for nobody any more."""
        for timer in self._waiting.values():
            timer.cancel()
        for task in (*self._taking.values(), *self._ending):
            # What it would win now nobody here could go on with.
            task.cancel()

    # For clients.

    async def rescue(self, stream: Stream) -> Stream:
        """`stream`, or what goes on with it where the process that made it is gone."""
        if stream.mirrored and not stream.ended and await self._store.is_bereft(stream):
            return await self._take_over(stream)
        return stream

    async def cancel(self, stream: Stream) -> None:
        """Cancel a stream that another process makes."""
        if stream.mirrored and not stream.ended:
            await self._store.ask_to_cancel(stream)

    async def hand_over(self) -> None:
        """Leave what still runs here to other processes, with all that was said of it."""
        self._hub.hold_all()
        for pause_s in WRITTEN_AGAIN_S:
            await asyncio.sleep(pause_s)
            await self._store.written()
            if self._store.durable:
                await self._hub.let_go_all()
                return

    # Told by the store.

    def told_to_cancel(self, sid: str) -> None:
        """Somebody cancelled a stream of ours in another process."""
        self._hub.cancel_here(sid)

    def told_of_new_question(self, sid: str) -> None:
        """The session of a stream of ours has asked something new in another process."""
        self._hub.supersede_here(sid)

    def told_of_readers(self, sid: str, process: str, *, reading: bool) -> None:
        """Another process begins or ceases to read a stream of ours for its clients."""
        self._hub.read_elsewhere(sid, process, reading=reading)

    def told_of_death(self, process: str) -> None:
        """Another process is gone, and with it all who read there."""
        self._hub.gone(process)

    def told_of_outage(self, *, away: bool) -> None:
        """What is said now may be lost with this process: those who read it should know."""
        if away:
            self._tell_readers(NOT_DURABLE)

    def superseded(self, stream: Stream) -> None:
        """Another process makes a stream of ours now: nothing of it may be said here any more."""
        log.warning("a stream is made by another process now", extra={"stream_id": stream.sid})
        self._metrics.taken_over("superseded", stream.dialect)
        self._hub.let_go(stream)

    def reads(self, sid: str) -> bool:
        """Whether anybody reads that stream in this process."""
        return self._hub.is_read(sid)

    async def bereft(self, sid: str, *, read_here: bool) -> bool:
        """The process that made a stream is gone: go on with it, or wait for somebody who wants it."""
        # Whoever swept need not know who reads: a reader may have come while the process was going away.
        wanted = read_here or self._hub.is_read(sid)
        if sid in self._waiting and not wanted:
            return False
        stream = await self._store.look_up(sid)
        if stream.ended or not await self._store.is_bereft(stream):
            # Somebody was faster, perhaps we ourselves, for a client.
            return stream.ended
        if wanted or stream.request.on_disconnect is OnDisconnect.DETACH:
            return (await self._take_over(stream)).ended
        graceful = stream.request.on_disconnect is OnDisconnect.GRACE
        wait_s = max(AWAITED_S, stream.request.grace_s if graceful else 0.0)
        self._waiting[sid] = asyncio.get_running_loop().call_later(wait_s, self._give_up_waiting, sid, stream.epoch)
        return False

    # Taking over.

    async def _take_over(self, stream: Stream) -> Stream:
        """Become its producer; of any number of callers in this process one does it."""
        task = self._taking.get(stream.sid)
        if task is None:
            task = self._take(stream.sid, self._go_on(stream))
        return await asyncio.shield(task)

    def _take(self, sid: str, taking: Coroutine[Any, Any, Stream]) -> asyncio.Task[Stream]:
        task = self._taking[sid] = asyncio.create_task(taking, name=f"take over {sid}")
        task.add_done_callback(lambda _task: self._taking.pop(sid, None))
        return task

    async def _go_on(self, stream: Stream) -> Stream:
        self._hub.refuse_when_full()
        heir = await self._claim(stream)
        if heir.mirrored or heir.ended or self._hub.runs(heir.sid):
            return heir
        pipeline = self._pipeline_for(heir)
        if pipeline is None or not pipeline.can_go_on(heir):
            self._end(heir)
            return heir
        try:
            permit = self._adopt(heir)
        except GatewayError as error:
            self._metrics.taken_over("refused", heir.dialect)
            log.info("a stream may not go on: %s", error, extra={"stream_id": heir.sid})
            self._finish(heir, error)
            return heir
        self._metrics.taken_over("continued", heir.dialect)
        log.info("going on with a stream", extra={"stream_id": heir.sid, "epoch": heir.epoch, "events": heir.head})
        work = self._hub.start(heir, pipeline, permit=permit)
        self._hub.expect_reader(work, AWAITED_S)
        return heir

    async def _claim(self, stream: Stream) -> Stream:
        heir = await self._store.claim(stream)
        if heir.mirrored:
            self._metrics.taken_over("raced", heir.dialect)
        return heir

    def _pipeline_for(self, heir: Stream) -> Pipeline | None:
        """None where this process does not serve what another one did."""
        try:
            return self._revive(heir.request)
        except GatewayError:
            return None

    def _give_up_waiting(self, sid: str, epoch: int) -> None:
        task = asyncio.create_task(self._end_unread(sid, epoch), name=f"end {sid}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_unread(self, sid: str, epoch: int) -> None:
        """Nobody came back for a stream whose process is gone, or it would be in another epoch: end it honestly."""
        try:
            stream = await self._store.look_up(sid)
            unwanted = stream.epoch == epoch and not stream.ended and await self._store.is_bereft(stream)
            # Whoever came in the meantime, or comes now, shares the outcome: two claims of one process both win.
            if unwanted and sid not in self._taking and not self._hub.is_read(sid):
                await self._take(sid, self._claim_to_end(stream))
        except GatewayError as error:
            log.warning("a stream whose process is gone could not be ended: %s", error, extra={"stream_id": sid})
        finally:
            self._waiting.pop(sid, None)

    async def _claim_to_end(self, stream: Stream) -> Stream:
        heir = await self._claim(stream)
        if not heir.mirrored and not heir.ended:
            self._end(heir)
        return heir

    def _end(self, heir: Stream) -> None:
        self._metrics.taken_over("lost", heir.dialect)
        log.error("a stream was lost with its process", extra={"stream_id": heir.sid, "events": heir.head})
        self._finish(heir, GatewayError(Code.PRODUCER_LOST))

    def _finish(self, heir: Stream, error: GatewayError) -> None:
        heir.finish(failed(error))
        self._store.settle(heir)
