"""Pool: the connections to one upstream, used again while they are fresh."""

import asyncio
import ssl
from collections import deque

from gateway.errors import Code, GatewayError
from gateway.transport.connection import Headers, Listener, UpstreamConnection
from gateway.transport.dial import Dialler
from gateway.transport.route import Route
from gateway.turn import Turn

WHOLE_BODY_MAX_BYTES = 4 * 1024 * 1024
"""Of an answer that is wanted as a whole."""


class Pool:
    """At most `max_connections` in use at once. Idle ones are closed after `keepalive_s`. Times are in seconds."""

    def __init__(self, route: Route, turn: Turn, *, connect_s: float, max_connections: int, keepalive_s: float) -> None:
        self._route = route
        self._turn = turn
        self._dialler = Dialler(route)
        self._connect_s = connect_s
        self._keepalive_s = keepalive_s
        self._permits = asyncio.Semaphore(max_connections)
        self._idle: deque[UpstreamConnection] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def ask(self, request: bytes, listener: Listener, *, anew: bool = False) -> UpstreamConnection:
        """Send `request` on a connection of its own, while the answer lasts; the caller must `leave` it.

        `anew` takes none that was used before.

        Raises `UPSTREAM_UNAVAILABLE`, `UPSTREAM_TLS`, and `UPSTREAM_TIMEOUT` where none is to be had in `connect_s`.
        """
        if self._permits.locked():
            await self._permit()
        else:
            await self._permits.acquire()
        connection = None if anew else self._fresh()
        if connection is None:
            try:
                connection = await self._dial()
            except BaseException:
                self._permits.release()
                raise
        connection.ask(request, listener)
        return connection

    async def fetch(self, request: bytes, limit_s: float) -> tuple[int, Headers, bytes]:
        """Status, headers and body of an answer that is wanted as a whole; whatever fails it is raised."""
        whole = _Whole()
        # A kept connection may have been closed meanwhile, and who looks after the upstream is to hear the truth.
        connection = await self.ask(request, whole, anew=True)
        try:
            async with asyncio.timeout(limit_s):
                return await whole.answer
        except TimeoutError:
            raise GatewayError(Code.UPSTREAM_TIMEOUT, "the upstream did not answer in time") from None
        finally:
            connection.leave(whole, at_end=False)

    def close(self) -> None:
        """Close what is idle, and whatever becomes idle from now on."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._idle.pop().drop()

    async def _permit(self) -> None:
        try:
            async with asyncio.timeout(self._connect_s):
                await self._permits.acquire()
        except TimeoutError:
            raise GatewayError(Code.UPSTREAM_TIMEOUT, "no connection to the upstream became free in time") from None

    def _fresh(self) -> UpstreamConnection | None:
        """The connection that was used last: the others can grow old and be closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _dial(self) -> UpstreamConnection:
        loop, tls = asyncio.get_running_loop(), self._route.tls
        try:
            async with asyncio.timeout(self._connect_s):
                sock = await self._dialler.connect()
                try:
                    name = self._route.host if tls is not None else None
                    _, connection = await loop.create_connection(
                        lambda: UpstreamConnection(self._turn, self._release), sock=sock, ssl=tls, server_hostname=name
                    )
                except BaseException:
                    sock.close()
                    raise
        except ssl.SSLError as error:
            raise GatewayError(Code.UPSTREAM_TLS) from error
        except TimeoutError as error:
            raise GatewayError(Code.UPSTREAM_TIMEOUT, "the upstream did not accept a connection in time") from error
        except (OSError, RuntimeError) as error:
            # uvloop says RuntimeError of a socket that was closed under it.
            raise GatewayError(Code.UPSTREAM_UNAVAILABLE) from error
        if not connection.usable:
            connection.drop()
            raise GatewayError(Code.UPSTREAM_UNAVAILABLE)  # It is lost already.
        return connection

    def _release(self, connection: UpstreamConnection) -> None:
        """Its question is over."""
        self._permits.release()
        if self._closed:
            connection.drop()
        elif connection.usable:
            loop = asyncio.get_running_loop()
            connection.idle_since = loop.time()
            self._idle.append(connection)
            if self._sweeper is None:
                self._sweeper = loop.call_later(self._keepalive_s, self._sweep)

    def _sweep(self) -> None:
        """Close those that nobody used for long; the oldest stand first."""
        loop = asyncio.get_running_loop()
        while self._idle and (not self._idle[0].usable or loop.time() >= self._idle[0].idle_since + self._keepalive_s):
            self._idle.popleft().drop()
        self._sweeper = None
        if self._idle:
            self._sweeper = loop.call_at(self._idle[0].idle_since + self._keepalive_s, self._sweep)


class _Whole:
    """A listener for a short answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, Headers, bytes]] = asyncio.get_running_loop().create_future()
        self.pieces = 0
        self._head: tuple[int, Headers] = (0, {})
        self._body = bytearray()

    def began(self, status: int, headers: Headers) -> None:
        """Its head."""
        self._head = (status, headers)

    def body(self, data: bytes) -> None:
        """A piece of it, up to what may be kept."""
        self.pieces += 1
        self._body += data
        if len(self._body) > WHOLE_BODY_MAX_BYTES:
            self.failed(GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream's answer is too large"))

    def rested(self) -> None:
        """Wait for more."""

    def ended(self) -> None:
        """It is whole."""
        if not self.answer.done():
            self.answer.set_result((*self._head, bytes(self._body)))

    def failed(self, error: GatewayError) -> None:
        """It is not."""
        if not self.answer.done():
            self.answer.set_exception(error)
