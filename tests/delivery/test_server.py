"""What reaches below aiohttp's public surface: fails when aiohttp changes there."""

import asyncio
import contextlib
import inspect
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from gateway.delivery.listener import SocketOptions, listen_tcp, listen_unix
from gateway.delivery.server import GatewayProtocol, GatewayRunner, Shortcuts
from gateway.telemetry.prometheus import PrometheusMetrics
from tests.delivery.transport import connected
from tests.house import eventually

OPTIONS = SocketOptions(send_buffer_bytes=32 * 1024, user_timeout_s=15, backlog=16)


def test_the_private_names_are_still_there() -> None:
    """Each of them is used in gateway/delivery/server.py and nowhere else."""
    assert inspect.iscoroutinefunction(web.AppRunner._make_server)
    server = inspect.getsource(web.Server.__init__)
    for name in ("self._kwargs", "self._connections", "self.request_handler", "self.request_factory"):
        assert name in server
    assert {"_manager", "_waiter", "_current_request", "_task_handler"} <= set(RequestHandler.__slots__)
    assert "self._reading_paused = True" in inspect.getsource(RequestHandler.pause_reading)
    assert "return RequestHandler(self, loop=self._loop, **self._kwargs)" in inspect.getsource(web.Server.__call__)
    for name in ("pause_writing", "resume_writing", "connection_made", "connection_lost", "handle_error"):
        assert callable(getattr(RequestHandler, name))


async def _serve(
    served: object, admit: object = lambda _: True, shortcuts: Shortcuts | None = None
) -> tuple[GatewayRunner, PrometheusMetrics, str]:
    """`served` is an application, or a handler for `/`."""
    metrics = PrometheusMetrics()
    app = served if isinstance(served, web.Application) else web.Application()
    if app is not served:
        app.router.add_get("/", served)  # type: ignore[arg-type]  # handlers of several shapes
    runner = GatewayRunner(
        app,
        metrics=metrics,
        admit=admit,  # type: ignore[arg-type]
        shortcuts=shortcuts,
        keepalive_timeout=5,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    listener = listen_tcp("127.0.0.1", 0, OPTIONS)
    await web.SockSite(runner, listener).start()
    return runner, metrics, f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_connections_are_ours_and_counted() -> None:
    """The runner makes our protocol, with unbuffered writing, and tells the metrics."""
    seen: list[GatewayProtocol] = []

    async def handler(request: web.Request) -> web.Response:
        assert isinstance(request.protocol, GatewayProtocol)
        assert request.transport is not None
        assert request.transport.get_write_buffer_limits() == (0, 0)
        seen.append(request.protocol)
        return web.Response(text="ok")

    runner, metrics, url = await _serve(handler)
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert await response.text() == "ok"
            assert metrics.registry.get_sample_value("ssegw_connections_open") == 1
        await eventually(lambda: metrics.registry.get_sample_value("ssegw_connections_open") == 0)
        assert len(seen) == 1
    finally:
        await runner.cleanup()


async def test_a_shortcut_passes_the_application_by() -> None:
    """Only with its very method and target, and not for a client that waits for `100 Continue`."""
    ways: list[str] = []

    def noting(way: str) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            ways.append(f"{way} {request.method} {request.path_qs}")
            return web.Response(body=await request.read())

        return handler

    app = web.Application()
    app.router.add_route("*", "/{any}", noting("application"))
    runner, _, url = await _serve(app, shortcuts={("POST", "/short"): noting("shortcut")})
    try:
        async with aiohttp.ClientSession(url) as session:
            for method, path in (("POST", "/short"), ("GET", "/short"), ("POST", "/short?a=b"), ("POST", "/other")):
                await session.request(method, path, data=b"body")
            await session.post("/short", data=b"body", expect100=True)
    finally:
        await runner.cleanup()
    assert ways == [
        "shortcut POST /short",
        "application GET /short",
        "application POST /short?a=b",
        "application POST /other",
        "application POST /short",
    ]


@pytest.mark.parametrize("waiting", [False, True])
async def test_a_handler_hears_at_once_that_its_client_sends_no_more(waiting: bool) -> None:
    """Before the connection itself is taken down; but where bytes wait for the client, their deadline has to run."""
    begun: asyncio.Future[web.Request] = asyncio.get_running_loop().create_future()
    ended: list[bool] = []

    async def handler(request: web.Request) -> web.Response:
        begun.set_result(request)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(request.transport is not None)
        return web.Response()

    runner, _, url = await _serve(handler)
    host, port = url.removeprefix("http://").split(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        request = await begun
        assert isinstance(request.protocol, GatewayProtocol)
        if waiting:
            request.protocol.pause_writing()
        request.protocol.eof_received()
        for _ in range(5):
            await asyncio.sleep(0)
        assert ended == ([] if waiting else [True])
        writer.close()
    finally:
        await runner.cleanup()


async def test_reading_is_resumed_only_where_it_was_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp asks for it with each body that is read, which would have its parser look at nothing each time."""
    fed: list[bytes] = []
    protocol, _ = await connected()
    monkeypatch.setattr(GatewayProtocol, "data_received", lambda _, data: fed.append(data))
    protocol.resume_reading()
    assert fed == []
    protocol._reading_paused = True
    protocol.resume_reading()
    assert fed == [b""]


async def test_accepted_sockets_inherit_their_bounds() -> None:
    """The send buffer is what was asked for, doubled by Linux, and a vanished peer is given up in time."""
    listener = listen_tcp("127.0.0.1", 0, OPTIONS)
    with contextlib.closing(listener), socket.create_connection(listener.getsockname()[:2]):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 64 * 1024
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000


async def test_too_many_connections_are_told_so_at_once() -> None:
    """A complete 503, before anything was asked."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    runner, _, url = await _serve(handler, admit=lambda connections: connections <= 1)
    host, port = url.removeprefix("http://").split(":")
    try:
        first = await asyncio.open_connection(host, int(port))
        second = await asyncio.open_connection(host, int(port))
        answer = await second[0].read()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b'"code":"OVERLOADED"' in answer
        assert b"Retry-After: 2\r\n" in answer
        for _, writer in (first, second):
            writer.close()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03canary\r\n\r\n", b"BAD_HTTP"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: canary\x00\r\n\r\n", b"BAD_HTTP"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: canary" + b"a" * 20_000 + b"\r\n\r\n", b"HEADERS_TOO_LARGE"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"BAD_HTTP"),
    ],
)
async def test_what_is_not_http_is_answered_in_our_words(request_bytes: bytes, code: bytes) -> None:
    """A code of ours, and nothing of what was sent."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    runner, _, url = await _serve(handler)
    host, port = url.removeprefix("http://").split(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_bytes)
        answer = await reader.read()
        writer.close()
        assert b'"code":"' + code + b'"' in answer
        assert b"canary" not in answer
    finally:
        await runner.cleanup()


async def test_a_unix_socket_left_behind_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    """A crash leaves a file; a second start must not take the first one's clients."""
    path = str(tmp_path / "gateway.sock")
    listen_unix(path, OPTIONS).close()
    live = listen_unix(path, OPTIONS)
    with contextlib.closing(live):
        with pytest.raises(OSError, match="in use"):
            listen_unix(path, OPTIONS)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_an_address_in_use_raises() -> None:
    """And the socket that could not be used is closed."""
    with contextlib.closing(listen_tcp("127.0.0.1", 0, OPTIONS)) as taken, pytest.raises(OSError, match="in use"):
        listen_tcp("127.0.0.1", taken.getsockname()[1], OPTIONS)
