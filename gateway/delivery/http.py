"""SSE over HTTP: the sink on a socket, and the delivery of a stream as the answer to a request."""

import asyncio
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from gateway.delivery.connection import Connection, Ending, Patience
from gateway.delivery.framer import Framers
from gateway.delivery.heart import Heart
from gateway.delivery.packing import CHUNKED, PLAIN
from gateway.delivery.response import answer
from gateway.delivery.server import GatewayProtocol
from gateway.delivery.sink import Packing
from gateway.delivery.waiter import Waiter, successor_of
from gateway.dialects.base import Dialect
from gateway.errors import ClientGone, Code, GatewayError, SlowClient
from gateway.events import DRAINING, NOT_DURABLE, Failed
from gateway.request import OnDisconnect
from gateway.sse import HEARTBEAT
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics
from gateway.turn import Turn

END_OF_CHUNKS = b"0\r\n\r\n"


class SseSink:
    """Writes to the socket of one HTTP response, past aiohttp's writer: no coroutine for each token.

    What is written in one turn of the loop goes out together behind it, and the response's `head` with the first of
    it: each write is a system call.
    """

    def __init__(self, protocol: GatewayProtocol, turn: Turn, *, chunked: bool, head: bytes = b"") -> None:
        self._protocol = protocol
        self._turn = turn
        self._chunked = chunked
        self._held = head
        self.packing: Packing = CHUNKED if chunked else PLAIN
        if head:
            turn.wrote(self)

    def on_congestion(self, tell: Callable[[], None] | None) -> None:
        """Have `tell` called when bytes begin to wait in this process, or nobody any more."""
        self._protocol.on_pause = tell

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Packed frames; the `last` ones wait for `finish`. Raises `ClientGone` once the connection is lost."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        if self._held:
            self._held += data
            return
        self._held = data
        if not last:
            self._turn.wrote(self)

    def finish(self) -> None:
        """End the body properly. Raises `ClientGone` as `write` does."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        if self._chunked:
            self._held += END_OF_CHUNKS
        if self._turn.in_doubt():
            self._turn.wrote(self)
        else:
            self.let_go()

    def let_go(self) -> None:
        """Write what was held back."""
        transport = self._protocol.transport
        if self._held and transport is not None and not transport.is_closing():
            transport.write(self._held)
        self._held = b""

    def drop(self) -> None:
        """Forget what was held back."""
        self._held = b""

    def beat(self) -> None:
        """A comment."""
        self.write(self.packing.wrap(HEARTBEAT))

    @property
    def congested(self) -> bool:
        """Whether bytes wait in this process."""
        return self._protocol.writing_paused

    async def drained(self, limit_s: float) -> None:
        """Wait for the socket."""
        await self._protocol.writable(limit_s)

    def release(self) -> None:
        """Wake whoever waits in `drained`."""
        self._protocol.release()

    def abort(self) -> None:
        """Cut the connection: the client must see that an answer began, and that this was no proper end."""
        if self._turn.in_doubt():
            self.drop()
        self.let_go()
        self._protocol.abort()


class Reading(NamedTuple):
    """What one request wants of a stream. `asked_at` is when it came, where it is the one that opened the stream."""

    stream: Stream
    dialect: Dialect
    place: Place | None = None
    unnamed: bool = False
    asked_at: float | None = None
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Manners:
    """How clients are treated. Seconds, except `retry_ms`: the latest when to come back after a lost connection."""

    patience: Patience
    retry_ms: int
    hold_s: float
    connection_age_s: float


class Delivery:
    """Gives streams to HTTP clients."""

    def __init__(
        self, heart: Heart, turn: Turn, manners: Manners, metrics: Metrics, durable: Callable[[], bool] = lambda: True
    ) -> None:
        self._durable = durable
        self._heart = heart
        self._turn = turn
        self._manners = manners
        self._metrics = metrics
        self._framers = Framers()

    async def deliver(self, request: web.Request, reading: Reading) -> web.StreamResponse:
        """Answer `request` with the stream. Raises `GatewayError` while the status is still ours to choose."""
        stream, dialect = reading.stream, reading.dialect
        # Before it waits for anything: what comes meanwhile is new to the client, and not to be folded.
        cursor = Cursor(stream, reading.place)
        if reading.place is not None and cursor.done:
            self._metrics.resumed("finished", 0)
            return web.Response(status=204, headers=stream_headers(stream))
        if dialect.holds_headers and not stream.begun:
            stream = await self._until_begun(stream)
            if stream is not cursor.stream:
                cursor = Cursor(stream, reading.place)
        if dialect.holds_headers and not stream.content_events:
            refuse_ended(stream)
        protocol = request.protocol
        assert isinstance(protocol, GatewayProtocol)
        response, head, chunked = answer(request, stream.sid)
        sink = SseSink(protocol, self._turn, chunked=chunked, head=head)
        ending = await self._read_on(request, reading, cursor, sink)
        if ending in (Ending.SLOW, Ending.GONE, Ending.BROKEN, Ending.SUPERSEDED):
            sink.abort()
        else:
            await self._end(sink)
        return response

    async def _end(self, sink: SseSink) -> None:
        """End the body properly. The last words too wait only as long as their client takes anything at all."""
        try:
            sink.finish()
            if sink.congested:
                await sink.drained(self._manners.patience.write_deadline_s)
        except ClientGone:
            sink.abort()
        except SlowClient:
            self._metrics.slow_consumer("aborted")
            sink.abort()

    async def _until_begun(self, stream: Stream) -> Stream:
        """Hold status and headers until the answer begins, or as long as proxies can be expected to wait."""
        end = asyncio.get_running_loop().time() + self._manners.hold_s
        while await self._is_given_up(stream, end):
            stream = successor_of(stream)
        return stream

    async def _is_given_up(self, stream: Stream, end: float) -> bool:
        """Wait for the answer to begin until `end` (loop time); whether it will not do so here."""
        with closing(Waiter(stream)) as waiter:
            limit_s = end - asyncio.get_running_loop().time()
            await waiter.wait(lambda: stream.begun or stream.given_up, limit_s)
        return stream.given_up

    async def _read_on(self, request: web.Request, reading: Reading, cursor: Cursor, sink: SseSink) -> Ending:
        """Read the stream, and go on in its successor wherever it has one: the client need not notice."""
        ending, asked_at = await self._read(request, reading, cursor, sink)
        while ending is Ending.RENEWED:
            cursor = Cursor(successor_of(cursor.stream), cursor.place)
            reading = reading._replace(asked_at=asked_at)
            ending, asked_at = await self._read(request, reading, cursor, sink, greet=False)
        return ending

    async def _read(
        self, request: web.Request, reading: Reading, cursor: Cursor, sink: SseSink, *, greet: bool = True
    ) -> tuple[Ending, float | None]:
        stream, dialect = cursor.stream, reading.dialect
        encoder = dialect.encoder(stream, unnamed=reading.unnamed)
        ending = Ending.GONE
        self._metrics.reader_attached(dialect.name)
        with self._framers.lend(stream, encoder, sink.packing) as framer:
            connection = Connection(cursor, framer, sink, self._heart, self._manners.patience, self._metrics)
            connection.asked_at = reading.asked_at
            if dialect.resumable and _comes_back(request, stream):
                connection.comes_back = True
                age = self._manners.connection_age_s * random.uniform(0.8, 1.0)
                connection.rotate_at = asyncio.get_running_loop().time() + age
            if not self._durable() and not stream.mirrored:
                connection.tell(NOT_DURABLE)
            try:
                ending = await connection.run(retry_ms=self._retry_ms() if dialect.resumable else 0, greet=greet)
            finally:
                self._account(reading, cursor, connection, ending)
        return ending, connection.asked_at

    def _retry_ms(self) -> int:
        """When to come back after a lost connection: those who lost the same process must not all come at once."""
        return random.randint(self._manners.retry_ms * 2 // 5, self._manners.retry_ms)

    def _account(self, reading: Reading, cursor: Cursor, connection: Connection, ending: Ending) -> None:
        name = reading.dialect.name
        self._metrics.reader_left(name, ending)
        if reading.asked_at is None:
            self._metrics.resumed(_resume_result(reading, cursor), connection.replayed)
        elif connection.first_token_s is not None:
            self._metrics.first_token(name, reading.provider, connection.first_token_s)


def stream_headers(stream: Stream) -> dict[str, str]:
    """Which stream this is, and where to find it again."""
    return {"X-Stream-Id": stream.sid, "Location": f"/stream/{stream.sid}"}


def is_one_too_many(request: web.Request) -> bool:
    """Whether its connection is one more than the process serves, taken only to be told so."""
    protocol = request.protocol
    return isinstance(protocol, GatewayProtocol) and protocol.one_too_many


def is_native_get(request: web.Request) -> bool:
    """Whether a browser's EventSource asks: it comes back by itself, but only after 200 and a clean or lost end."""
    return request.method == "GET" and "text/event-stream" in request.headers.get("Accept", "")


def _comes_back(request: web.Request, stream: Stream) -> bool:
    """Whether this client reconnects by itself after a clean end, and still finds its stream then."""
    return is_native_get(request) and stream.request.on_disconnect is not OnDisconnect.CANCEL


def refuse_ended(stream: Stream) -> None:
    """Raise the HTTP answer for a stream that failed or was cancelled before its client was told anything."""
    terminal = stream.terminal
    if isinstance(terminal, Failed):
        code, after_s = Code[terminal.code], terminal.retry_after_s
        if code is Code.QUEUE_TIMEOUT:
            # Nothing was made of it yet: asked again, it is made once.
            raise GatewayError(code, terminal.message, retry_after_s=after_s)
        raise _ended(GatewayError(code, terminal.message, status=terminal.status, retry_after_s=after_s))
    if terminal is not None and (terminal.status, terminal.finish_reason) == ("cancelled", DRAINING):
        # Nothing was said yet: another process may be asked the same.
        raise GatewayError(Code.DRAINING, retry_after_s=2)
    if terminal is not None and terminal.status == "cancelled":
        raise _ended(GatewayError(Code.CANCELLED, f"the stream was cancelled ({terminal.finish_reason})"))


def _ended(error: GatewayError) -> GatewayError:
    """`error`, which ended a stream. No variable may hold it where it is raised, or it would hold itself."""
    error.ended_a_stream = True
    return error


def _resume_result(reading: Reading, cursor: Cursor) -> str:
    if cursor.lost:
        return cursor.lost.lower()
    return "snapshot" if reading.place is None else "kept"
