"""World: one answer, its clients, the processes that make it one after the other, and the Redis between them."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from redis.exceptions import RedisError

from gateway.errors import Code, GatewayError
from gateway.request import OnDisconnect
from gateway.stores.keys import Keys
from gateway.stores.redis_client import connect
from gateway.stores.redis_log import RedisLog
from gateway.streams.stream import Bounds
from tests.doubles import ALICE, question
from tests.model.clients import Browser, Client, Program
from tests.model.oracle import Oracle, Violation
from tests.model.process import LONG_S, Process, turns
from tests.model.sources import WHOLE
from tests.redis_server import RedisServer

ROOMY = Bounds(max_bytes=1 << 20, max_events=10_000, max_audio_ms=1000)
TIGHT = Bounds(max_bytes=1 << 20, max_events=24, max_audio_ms=1000)
PROCESSES_MAX = 4
ROUNDS_MAX = 40
GONE = (Code.STREAM_NOT_FOUND, Code.STREAM_EXPIRED)


class World:
    """Everything that can happen, as verbs; each is written into `history`, and after each all is compared."""

    def __init__(self, server: RedisServer, loop: asyncio.AbstractEventLoop, *, exact: bool, tight: bool) -> None:
        self.server = server
        self.loop = loop
        self.exact = exact
        self.history: list[str] = []
        self.oracle = Oracle()
        self.living: set[str] = set()
        self.processes: list[Process] = []
        self.clients: list[Client] = []
        self.flushed = self.cancelled = self.cut_short = False
        self._bounds = TIGHT if tight else ROOMY
        self._started = 0
        server.command("REPLICAOF", "NO", "ONE")
        server.command("FLUSHALL")
        self._referee = connect(server.url, 1.0)
        self._log = RedisLog(
            self._referee.commands, Keys("model"), command_s=1.0, running_ttl_s=1, retention_s=1, tombstone_s=1
        )

    def does(self, what: str, work: Coroutine[Any, Any, Any]) -> None:
        """One step; raises `Violation`, with everything that led to it, where a promise is broken."""
        self.history.append(what)
        try:
            self.loop.run_until_complete(self._step(work))
        except Violation as violation:
            self.history.append(f"BROKEN: {violation}")
            raise Violation("\n".join(self.history)) from None

    async def _step(self, work: Coroutine[Any, Any, Any]) -> None:
        await work
        await turns()
        if self.oracle.found:
            raise Violation(self.oracle.found[0])

    async def compare(self) -> None:
        """What stands in Redis with what was said."""
        found = await self._log.load(self.oracle.sid)
        if found is not None and found.entries:
            self.oracle.check_log(found)

    # What happens to processes.

    async def start(self) -> Process:
        """One more process."""
        name = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[self._started % 26]
        self._started += 1
        process = Process(name, self.server.url, self._bounds, self.oracle, self.living, exact=self.exact)
        await process.start()
        self.processes.append(process)
        return process

    async def open(self, process: Process) -> None:
        """The question is asked."""
        request = question(on_disconnect=OnDisconnect.DETACH)
        opening = await process.hub.open(request, ALICE, process.pipeline(request), dialect="native")
        self.oracle.sid = opening.stream.sid
        await process.flush()

    async def kill(self, process: Process) -> None:
        """SIGKILL."""
        self.processes.remove(process)
        await process.kill()

    async def drain(self, process: Process) -> None:
        """SIGTERM. Where so many answers are lost that it cannot hand over, it ends what it makes, and says so."""
        self.cut_short = self.cut_short or process.misses
        self.processes.remove(process)
        await process.drain()
        await process.close()

    async def freeze(self, process: Process, *, lapse: bool) -> None:
        """SIGSTOP; with `lapse` for so long that the others take it for dead."""
        process.frozen = True
        if lapse:
            self.living.discard(process.store.instance)
            with contextlib.suppress(RedisError):
                self.server.command("DEL", f"model:inst:{{{process.store.instance}}}:lease")

    async def wake(self, process: Process, said: int, *, writes_first: bool) -> None:
        """SIGCONT: what was about to happen does, and only then its streams may be somebody else's."""
        await self._mute_superseded(process)
        process.wakes()
        if writes_first:
            await process.flush()
        process.say(said)
        await turns()
        process.store.pulse.stood_still()
        await process.settled()

    async def _mute_superseded(self, process: Process) -> None:
        (held,) = await self._log.epochs([self.oracle.sid])
        work = process.hub._running.get(self.oracle.sid)
        # One that cannot ask whose streams are its own speaks on: to be silent would serve nobody.
        if not process.misses and held is not None and work is not None and held[0] > work.stream.epoch:
            for line in process.readings:
                line.mute = f"from {process.name}, which woke in epoch {work.stream.epoch} of {held[0]}"

    # What happens to clients.

    def meet(self, *, native: bool) -> Client:
        """One more client."""
        kind = Browser if native else Program
        client = kind(
            f"client {len(self.clients)}", self.oracle, WHOLE if self.exact else None, forgets=self._bounds is TIGHT
        )
        self.clients.append(client)
        return client

    async def connect(self, client: Client, process: Process) -> None:
        """It comes to a process."""
        try:
            await process.connect(client)
        except GatewayError as error:
            if error.code in GONE:
                client.refused = error.code.name
                if not self.flushed:
                    raise Violation(f"{client.name} hears {error}, although nothing was lost") from None

    async def leave(self, client: Client) -> None:
        """It hangs up."""
        client.line = None
        for process in self.processes:
            for line, task in process.readings.items():
                if line.client is client and not process.frozen:
                    task.cancel()

    async def cancel(self, process: Process) -> None:
        """A client asks a process to end the answer."""
        with contextlib.suppress(GatewayError):
            # Also when it is refused it may have arrived: only the answer may be lost.
            self.cancelled = True
            await process.hub.cancel(self.oracle.sid, ALICE)
        await process.settled()

    # What happens to Redis.

    async def redis(self, *words: str) -> None:
        """An operator's command."""
        self.server.command(*words)

    async def lose_everything(self) -> None:
        """It begins anew, empty."""
        self.flushed = True
        self.server.command("REPLICAOF", "NO", "ONE")
        self.server.command("FLUSHALL")

    async def cut(self) -> None:
        """All its connections break."""
        self.server.command("CLIENT", "KILL", "TYPE", "normal")

    # To the end.

    async def round(self, process: Process, said: int) -> None:
        """What a process does in half a second."""
        await process.beat()
        await process.flush()
        await process.poll()
        await process.look()
        process.say(said)
        await process.settled()

    async def finish(self) -> None:
        """Everything is well again, and everybody comes to an end."""
        self.server.command("REPLICAOF", "NO", "ONE")
        for process in self.processes:
            if process.frozen:
                await self.wake(process, 1, writes_first=False)
        if not self.processes:
            await self.start()
        for number in range(ROUNDS_MAX):
            for process in self.processes:
                await self.round(process, 5)
                if number % 3 == 1:
                    await process.sweep()
                process.lease_clock.advance(LONG_S)
            waiting = [client for client in self.clients if not client.over]
            if not waiting:
                break
            for client in waiting:
                await self._comes_back(client, self.processes[number % len(self.processes)])
        else:
            raise Violation(f"no end: {[(client.name, client.text, client.place) for client in waiting]}")
        for process in self.processes:
            await process.flush()
        await self.compare()
        for client in self.clients:
            self._judge(client)

    async def _comes_back(self, client: Client, process: Process) -> None:
        if client.line is None and not client.native and client.text:
            client.refused = "cut off"
        elif client.line is None:
            await self.connect(client, process)
        elif client.line.writing_paused:
            client.line.take()

    def _judge(self, client: Client) -> None:
        """What a client has in the end."""
        if self.oracle.found:
            raise Violation(self.oracle.found[0])
        whole = "complete completed" in client.terminals
        if whole and client.whole is not None and client.text != client.whole and not client.partial:
            raise Violation(f"{client.name} has {client.text!r} for the whole")
        if self.cut_short and client.terminals == ["complete cancelled draining"]:
            return
        if not whole and not self.cancelled and not self.flushed and client.native and not client.refused:
            raise Violation(f"{client.name} was told {client.terminals}, although nothing had to be lost")

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing behind."""
        self.loop.run_until_complete(self._close())

    async def _close(self) -> None:
        self.server.command("REPLICAOF", "NO", "ONE")
        for process in self.processes:
            await process.kill()
        await self._referee.aclose()
