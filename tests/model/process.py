"""Process: a gateway without its sockets and timers, over a real Redis; nothing happens in it but what it is told."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

from gateway.delivery.connection import Ending, Patience
from gateway.delivery.heart import Heart
from gateway.delivery.http import Delivery, Manners, Reading, SseSink, refuse_ended
from gateway.dialects.base import Dialect
from gateway.dialects.native import NativeDialect
from gateway.dialects.openai import OpenAIDialect
from gateway.errors import ClientGone, GatewayError
from gateway.hub import Hub
from gateway.pipeline import Pipeline
from gateway.request import StreamRequest
from gateway.stores.batch import Batch
from gateway.stores.members import Membership
from gateway.stores.memory import MemoryStore
from gateway.stores.redis import RedisStore, Shared
from gateway.streams.cursor import Cursor
from gateway.streams.stream import Bounds, Stream
from gateway.succession import Succession
from gateway.telemetry.metrics import Metrics
from gateway.turn import Turn
from tests.doubles import ALICE, ManualClock
from tests.model.clients import Client, Line
from tests.model.oracle import Oracle
from tests.model.sources import Halves, SteppedSource

PATIENCE = Patience(
    merge_bytes=20, merge_s=1e6, abort_bytes=1 << 20, write_deadline_s=1e6, turn_bytes=64, turn_events=5
)
MANNERS = Manners(patience=PATIENCE, retry_ms=1000, hold_s=1e6, connection_age_s=1e6)
LEASE_S = 1.5
LONG_S = 10 * LEASE_S
CUT = (Ending.SLOW, Ending.GONE, Ending.BROKEN, Ending.SUPERSEDED)
BROWSER: Any = SimpleNamespace(method="GET", headers={"Accept": "text/event-stream"})


class Directory(Membership):
    """Knows who lives without asking: the probe and the lease have tests of their own, and take their time."""

    living: set[str]

    async def alive(self, instance: str, address: str) -> bool:
        return instance in self.living


class LossyBatch(Batch):
    """What it sends is done, but the answers do not arrive."""

    async def send(self) -> list[Any]:
        await super().send()
        raise TimeoutError("the answer was lost")


class Process:
    """One of several; `living` holds the instances that the others would find alive."""

    def __init__(self, name: str, url: str, bounds: Bounds, oracle: Oracle, living: set[str], *, exact: bool) -> None:
        self.name = name
        self.frozen = self.misses = False
        self.sources: list[SteppedSource] = []
        self.readings: dict[Line, asyncio.Task[None]] = {}
        self.clock, self.lease_clock = ManualClock(), ManualClock()
        self._exact = exact
        self._oracle = oracle
        self._living = living
        self._turn = Turn()
        shared = Shared(
            url, "model", flush_s=60, command_s=1.0, lease_s=LEASE_S, accept_when_away=True, probe_host="127.0.0.1",
            probe_port=0, retention_s=600, running_s=600,
        )  # fmt: skip
        memory, metrics = MemoryStore(max_bytes=1 << 22, retention_s=600), Metrics()
        self.store = RedisStore(memory, shared, bounds, reopen=self._turn.reopen, metrics=metrics)
        self._turn.doubt = self.store.pulse.stood_still
        self.hub = Hub(self.store, bounds=bounds, max_streams=100, metrics=metrics)
        self.heart = Heart(heartbeat_s=15, retry_min_ms=1, retry_max_ms=2, metrics=metrics)
        self.succession = Succession(
            self.hub, self.store, revive=self.pipeline, tell_readers=self.heart.tell_all, metrics=metrics
        )
        self.hub.share(self.store, self.succession)
        self.delivery = Delivery(self.heart, self._turn, MANNERS, metrics, lambda: self.store.durable)

    async def start(self) -> None:
        """Take part. What the store would do by itself is stopped again: it is done in steps."""
        store = self.store
        store.pulse._clock = self.clock
        await store.start(self.succession)
        await store._flusher.stop()
        await store._chores.stop()
        await store._mirrors.stop()
        await store._watch.stop()
        store.pulse.stop()
        cast(Any, store._lease)._beating.cancel()
        store._lease._clock = self.lease_clock
        members = Directory(store._clients.commands, store._keys, store._lease)
        members.living = self._living
        store._members = store._watch._members = members
        self._flusher_keep, store._flusher.keep = store._flusher.keep, self._keep  # type: ignore[method-assign]  # told of each
        self._living.add(store.instance)

    def _keep(self, stream: Stream, **more: Any) -> None:
        """From the moment in which this process makes a stream the oracle hears it, before any client does."""
        self._flusher_keep(stream, **more)
        self._oracle.watch(stream, self.name)

    def pipeline(self, request: StreamRequest) -> Pipeline:
        """A source that waits to be told, and a stage behind it."""
        source = SteppedSource(exact=self._exact)
        self.sources.append(source)
        return Pipeline(source, [Halves()], metrics=Metrics())

    # Steps.

    def say(self, number: int) -> int:
        """Every answer that is made here goes on; by how many events in all."""
        return sum(source.give(number) for source in self.sources)

    async def flush(self) -> None:
        """One round of writing."""
        await self.store._flusher.flush()
        with contextlib.suppress(Exception):
            await self.store._chores.work_off()

    async def poll(self) -> None:
        """One read of what the others wrote."""
        try:
            await self.store._mirrors.poll(1)
        except Exception:
            await self.store._mirrors._hang_up()
        await self.settled()

    async def look(self) -> None:
        """After the makers of what is read here."""
        with contextlib.suppress(Exception):
            await self.store._watch.look()
        await self.settled()

    async def sweep(self) -> None:
        """After what the dead have left."""
        with contextlib.suppress(Exception):
            await self.store._watch.sweep()
        await self.settled()

    async def beat(self) -> None:
        """Renew the lease, and learn of lost data."""
        await self.store._lease.renew()
        await self.settled()

    def lose_next_answer(self) -> None:
        """The next round trip is made, but its answers do not arrive."""
        logs = self.store._logs
        make = logs.batch
        self.misses = True

        def batch() -> Batch:
            self.misses = False
            logs.batch = logs.courier._batch = make  # type: ignore[method-assign]  # once
            return LossyBatch(logs._commands, logs._command_s)

        logs.batch = logs.courier._batch = batch  # type: ignore[method-assign]  # for once

    async def settled(self) -> None:
        """Everything that this led to in the process has been done."""
        for _ in range(3):
            await turns()
            if self.store._tasks:
                await asyncio.wait(set(self.store._tasks), timeout=5)
            if self.succession._taking:
                await asyncio.wait(set(self.succession._taking.values()), timeout=5)
        await turns()

    # Freezing.

    def wakes(self) -> None:
        """It stood still for longer than a lease; the next thing that it does shows it."""
        self.frozen = False
        self.clock.advance(LONG_S)
        self._living.add(self.store.instance)
        for line, task in self.readings.items():
            if line.client.line is not line:
                task.cancel()

    # Clients.

    async def connect(self, client: Client) -> None:
        """A client comes, with the place that it remembers. What it is refused with is its to understand."""
        place = client.place
        stream = await self.hub.find(self._oracle.sid, ALICE)
        if place is not None and Cursor(stream, place).done:
            client.refused = "204"
            return
        client.line = line = Line(client)
        client.connects()
        task = asyncio.create_task(self._reads(stream, client, line))
        self.readings[line] = task
        task.add_done_callback(lambda _: self.readings.pop(line, None) and None)
        await self.settled()

    async def _reads(self, stream: Stream, client: Client, line: Line) -> None:
        dialect: Dialect = (
            NativeDialect(default_model="m", grace_s=1, grace_max_s=1) if client.native else OpenAIDialect()
        )
        sink = SseSink(cast(Any, line), self._turn, chunked=False)
        with self.hub.reading(stream):
            try:
                if dialect.holds_headers:
                    stream = await self.delivery._until_begun(stream)
                    if not stream.content_events:
                        refuse_ended(stream)
                reading = Reading(stream, dialect, client.place)
                ending = await self.delivery._read_on(BROWSER, reading, Cursor(stream, client.place), sink)
            except GatewayError as error:
                client.refused = error.code.name
                line.abort()
                return
            if ending in CUT:
                sink.abort()
            else:
                with contextlib.suppress(ClientGone):
                    sink.finish()
                line.abort()

    # Ends.

    async def kill(self) -> None:
        """Gone, with all that it had not written down; nobody hears another word of it."""
        self._living.discard(self.store.instance)
        for line in self.readings:
            line.abort()
        self.hub._shared = None
        for work in self.hub._running.values():
            work.stream.give_up()
        while tasks := {*self.readings.values(), *self.store._tasks, *self.hub._tasks()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await turns()
        await self.close()

    async def drain(self) -> None:
        """As on SIGTERM, when the limit is over."""
        self.hub.draining = True
        self.store.with_audio()
        await self.store.written()
        self.heart.send_away_all("draining")
        await self.hub.run_down(0)
        await self.succession.hand_over()
        await self.hub.drain(0)
        await self.settled()
        for line, task in list(self.readings.items()):
            line.abort()
            task.cancel()
        await turns()
        self.succession.close()
        await self.store.stop()
        self._living.discard(self.store.instance)

    async def close(self) -> None:
        """Let go of connections and of the probe's port."""
        await self.store._mirrors._hang_up()
        await self.store._probe.close()
        await self.store._clients.aclose()


async def turns(number: int = 12) -> None:
    """Let everything run that can."""
    for _ in range(number):
        await asyncio.sleep(0)
