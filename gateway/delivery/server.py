"""What reaches below aiohttp's public surface: the server and its protocol, and nothing else.

Every private name of aiohttp that is used stands in this file, and `tests/delivery/test_server.py` fails when
one of them changes: `AppRunner._make_server`, `Server._kwargs`, `Server._connections`, `RequestHandler._manager`,
`RequestHandler._waiter`, `RequestHandler._current_request`, `RequestHandler._task_handler`,
`BaseProtocol._reading_paused`.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from gateway.dialects.errors import native_refusal
from gateway.errors import ClientGone, Code, GatewayError, SlowClient
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LOOKS_PER_DEADLINE = 4
"""How often a socket that takes nothing is looked at: nobody tells us when a client reads a little."""

NO_LINGER = struct.pack("ii", 1, 0)


class GatewayProtocol(RequestHandler):
    """aiohttp's connection, which also tells when its socket is full and when it is writable again.

    The write buffer's limits are 0: `writing_paused` is true exactly while bytes wait in this process.
    """

    def __init__(
        self,
        *args: Any,
        metrics: Metrics,
        admit: Callable[[int], bool],
        spare: int = 0,
        unix_send_buffer_bytes: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._metrics = metrics
        self._admit = admit
        self._spare = spare
        self._unix_send_buffer_bytes = unix_send_buffer_bytes
        self.one_too_many = False
        self._counted = False
        self._writable: asyncio.Future[None] | None = None
        self.on_pause: Callable[[], None] | None = None
        """Called when bytes begin to wait in this process."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        socket_transport = cast(asyncio.Transport, transport)
        socket_transport.set_write_buffer_limits(high=0, low=0)
        self._bound_unix_buffer(socket_transport)
        self._counted = True
        self._metrics.connection_opened()
        manager = self._manager
        if manager is None or self._admit(len(manager._connections)):
            return
        # Within the spare ones the request is heard, and refused in words that its client understands.
        self.one_too_many = True
        if not self._admit(len(manager._connections) - self._spare):
            self._metrics.refused(Code.OVERLOADED.name)
            socket_transport.write(_too_many())
            self.force_close()

    def _bound_unix_buffer(self, transport: asyncio.Transport) -> None:
        """A unix socket does not inherit its listener's buffer as a TCP socket does; its own would be 208 KiB."""
        sock = transport.get_extra_info("socket")
        if self._unix_send_buffer_bytes and sock is not None and sock.family == socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._unix_send_buffer_bytes)

    def eof_received(self) -> None:
        """The client has left, or sends no more, which is the same here: its handler hears of it a turn earlier.

        Not where bytes wait for it: they keep the connection open until the handler's write deadline cuts it.
        """
        if self._current_request is not None and self._task_handler is not None and not self.writing_paused:
            self._task_handler.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._counted = False
            self._metrics.connection_closed()
        super().connection_lost(exc)
        self.release()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it whenever a body is read, and then has its parser look for what a pause left over."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.on_pause is not None:
            self.on_pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.release()

    def release(self) -> None:
        """Wake whoever waits for the socket; it will look for itself what has happened."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def retire(self) -> None:
        """Take no further request: an idle connection is closed, a busy one when it has answered."""
        idle = self._waiter is not None
        self.close()
        if idle and self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection by a reset: after a close the kernel would keep what the client does not take."""
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.transport.abort()

    async def writable(self, limit_s: float) -> None:
        """Wait until no bytes wait. `SlowClient` after `limit_s` seconds without progress, `ClientGone` at the end."""
        loop = asyncio.get_running_loop()
        untaken, since = self._untaken(), loop.time()
        while self.transport is not None and self.writing_paused:
            self._writable = loop.create_future()
            try:
                async with asyncio.timeout(limit_s / LOOKS_PER_DEADLINE):
                    await self._writable
                    return
            except TimeoutError:
                before, untaken = untaken, self._untaken()
                if untaken < before:
                    since = loop.time()
                elif loop.time() - since >= limit_s:
                    raise SlowClient from None
            finally:
                self._writable = None
        if self.transport is None:
            raise ClientGone

    def _untaken(self) -> int:
        """Bytes that the client's side has not taken: those that wait here, and those in the socket's own buffer.

        The socket says that it is writable only when a third of its buffer is free, which takes a slow client long.
        """
        if self.transport is None:
            return 0
        sock = self.transport.get_extra_info("socket")
        in_kernel = struct.pack("i", 0)
        if sock is not None:
            with contextlib.suppress(OSError):
                in_kernel = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, in_kernel)
        return self.transport.get_write_buffer_size() + int(struct.unpack("i", in_kernel)[0])

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is not even HTTP is answered in our words: nothing of the request is echoed or logged."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, another cannot")
        code = {500: Code.INTERNAL, 504: Code.INTERNAL, 431: Code.HEADERS_TOO_LARGE}.get(status, Code.BAD_HTTP)
        if status >= 500:
            log.error("unhandled", exc_info=exc)
        elif exc is not None and type(exc).__name__ == "LineTooLong":
            code = Code.HEADERS_TOO_LARGE
        error = GatewayError(code)
        body = orjson.dumps(native_refusal(error))
        response = web.Response(status=error.status, body=body, content_type="application/json")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A fault of ours is logged; a body behind an answered request that is wrong or breaks off is none."""
        if isinstance(kw.get("exc_info"), (web.RequestPayloadError, ConnectionError)):
            self.log_debug(*args, **kw)
        else:
            super().log_exception(*args, **kw)


def _too_many() -> bytes:
    body = orjson.dumps(native_refusal(GatewayError(Code.OVERLOADED)))
    head = (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\nConnection: close\r\n"
    )
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class _Server(web.Server):
    """aiohttp's server, making our protocol."""

    ours: dict[str, Any]

    def __call__(self) -> RequestHandler:
        return GatewayProtocol(self, loop=self._loop, **self.ours, **self._kwargs)


Shortcuts = Mapping[tuple[str, str], Handler]
"""Handlers by method and target, which must be the whole target: a query is the application's to understand."""


def with_shortcuts(application: Handler, shortcuts: Shortcuts) -> Handler:
    """Hand a request that has a shortcut to its handler, past the application: its router, its middlewares and signals
    cost as much as a short answer. Everything else is the application's, and so is whoever waits for `100 Continue`.
    """

    def handle(request: web.Request) -> Awaitable[web.StreamResponse]:
        handler = shortcuts.get((request.method, request.raw_path))
        if handler is None or "Expect" in request.headers:
            return application(request)
        return handler(request)

    return handle


class GatewayRunner(web.AppRunner):
    """aiohttp's runner, making our server. `admit` is asked with the number of open connections.

    `spare` more are heard, though not served (`GatewayProtocol.one_too_many`); beyond that none is.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        metrics: Metrics,
        admit: Callable[[int], bool],
        spare: int = 0,
        unix_send_buffer_bytes: int = 0,
        shortcuts: Shortcuts | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(app, handler_cancellation=True, access_log=None, **kwargs)
        self._shortcuts = shortcuts or {}
        self._ours: dict[str, Any] = {
            "metrics": metrics,
            "admit": admit,
            "spare": spare,
            "unix_send_buffer_bytes": unix_send_buffer_bytes,
        }

    async def _make_server(self) -> Any:
        made = await super()._make_server()
        server = _Server(
            cast(Any, with_shortcuts(made.request_handler, self._shortcuts)),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
        server.ours = self._ours
        return server

    def retire_connections(self) -> None:
        """Close idle connections: left open to a proxy, they go on bringing requests when nobody listens any more."""
        for connection in self.server.connections if self.server is not None else ():
            assert isinstance(connection, GatewayProtocol)
            connection.retire()
