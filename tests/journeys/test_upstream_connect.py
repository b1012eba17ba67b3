"""An upstream that cannot be reached: refused, silent, not resolved, not to be trusted, or lost from the pool."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.house import eventually, free_port, house
from tests.journeys.asking import ask_all, ask_native, assert_all_failed, assert_native_failure, succeeded
from tests.journeys.certificates import make_certificate, server_context, tls_upstream
from tests.upstream import Call, Step, answer, streamed, upstream


async def test_a_refused_connection_is_told_at_once() -> None:
    """Nobody listens: UPSTREAM_UNAVAILABLE within a moment, and worth another try."""
    async with (
        house(OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1") as gateway,
        aiohttp.ClientSession() as session,
    ):
        await ask_native(session, gateway)  # what is set up once is set up now
        took = []
        for _ in range(3):  # the best of three: the machine may be busy
            began = time.monotonic()
            seen = await ask_native(session, gateway)
            took.append(time.monotonic() - began)
            assert assert_native_failure(seen, "UPSTREAM_UNAVAILABLE")["retryable"]
        assert min(took) < 0.1
        assert_all_failed(await ask_all(gateway), "UPSTREAM_UNAVAILABLE", 502)


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port on which connects are neither taken nor refused: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_an_upstream_that_takes_no_connection_is_given_up_in_time() -> None:
    """A black hole costs `openai.connect_s`, not the time of an answer."""
    with black_hole() as port:
        url = f"http://127.0.0.1:{port}/v1"
        async with house(OPENAI_BASE_URL=url, GATEWAY_OPENAI__CONNECT_S="0.3") as gateway:
            began = time.monotonic()
            assert_all_failed(await ask_all(gateway), "UPSTREAM_TIMEOUT", 504)
            assert 0.3 <= time.monotonic() - began < 3


async def test_a_name_that_cannot_be_resolved_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS says no: the same as a refused connection."""

    async def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with house(OPENAI_BASE_URL="http://upstream.invalid/v1") as gateway:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        assert_all_failed(await ask_all(gateway), "UPSTREAM_UNAVAILABLE", 502)


async def test_slow_name_resolution_stops_nobody_and_counts_as_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS takes long: the loop turns meanwhile, and `openai.connect_s` ends the wait."""

    async def slow(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(30)

    async with house(OPENAI_BASE_URL="http://upstream.invalid/v1", GATEWAY_OPENAI__CONNECT_S="0.2") as gateway:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", slow)
        assert_all_failed(await ask_all(gateway), "UPSTREAM_TIMEOUT", 504)


@pytest.mark.parametrize(
    ("name", "expired", "trusted", "good"),
    [
        ("IP:127.0.0.1", False, True, True),
        ("IP:127.0.0.1", False, False, False),
        ("IP:127.0.0.1", True, True, False),
        ("DNS:other.example", False, True, False),
    ],
    ids=["good", "self-signed", "expired", "wrong host"],
)
async def test_only_a_good_certificate_is_spoken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expired: bool, trusted: bool, good: bool
) -> None:
    """Anything else is UPSTREAM_TLS, and no request is ever sent there, not even a second time without checking."""
    certificate = make_certificate(tmp_path / "tls", name, expired=expired)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with tls_upstream(server_context(certificate)) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        answers = await ask_all(gateway)
    if good:
        assert all(succeeded(seen) for seen in answers)
        return
    assert_all_failed(answers, "UPSTREAM_TLS", 502)
    assert not service.calls


@pytest.mark.parametrize(
    ("says", "code", "status"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "UPSTREAM_TLS", 502), (b"", "UPSTREAM_TIMEOUT", 504)],
    ids=["plain HTTP", "silence"],
)
async def test_a_tls_port_without_tls_gets_nothing_in_the_clear(says: bytes, code: str, status: int) -> None:
    """Plain HTTP where TLS is wanted is a fault of TLS; a handshake that stalls costs no more than a connect."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))
        writer.write(says)
        heard.append(await reader.read(65536))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, house(OPENAI_BASE_URL=url, GATEWAY_OPENAI__CONNECT_S="0.3") as gateway:
        assert_all_failed(await ask_all(gateway), code, status)
    assert not any(b"POST" in data for data in heard)


async def test_a_connection_is_used_again_for_the_next_question() -> None:
    """The body is read on to its end, though that comes a moment after [DONE]: the next question needs no handshake."""
    *body, end = streamed(answer(["Hello"]))
    async with (
        upstream([*body, 0.05, end]) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession() as session,
    ):
        for turn in range(1, 4):
            assert succeeded(await ask_native(session, gateway))
            await asyncio.sleep(0.1)  # the end of the body is on its way, and nobody waits for it
            assert (service.connections, len(service.calls)) == (1, turn)


async def test_a_pooled_connection_that_was_closed_meanwhile_is_not_noticed() -> None:
    """The upstream closes what is idle: the next question takes a new connection."""
    steps = [*streamed(answer(["Hello"])), "fin"]
    async with (
        upstream(steps) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession() as session,
    ):
        for turn in range(1, 4):
            seen = await ask_native(session, gateway)
            assert (seen.text, succeeded(seen)) == ("Hello", True)
            await eventually(lambda: not service._writers)
            assert (service.connections, len(service.calls)) == (turn, turn)


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_pooled_connection_that_breaks_under_a_question_is_no_answer(end: str) -> None:
    """The question was sent and nothing came back: told as unavailable, asked only once, and the next one is fine."""
    scripts: list[list[Step]] = [streamed(answer(["Hello"])), [end], streamed(answer(["again"]))]
    async with (
        upstream(lambda _call: scripts.pop(0)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession() as session,
    ):
        assert succeeded(await ask_native(session, gateway))
        await eventually(lambda: gateway.hub.running == 0)
        assert_native_failure(await ask_native(session, gateway), "UPSTREAM_UNAVAILABLE")
        assert (service.connections, len(service.calls)) == (1, 2)
        assert (await ask_native(session, gateway)).text == "again"


async def test_an_answer_that_closes_its_connection_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS as well, where closing is a conversation: an upstream that does not join in holds no permit."""
    certificate = make_certificate(tmp_path / "tls", "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    body = b"".join(answer(["Hello"]))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    async with (
        tls_upstream(server_context(certificate)) as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_OPENAI__MAX_CONNECTIONS="1") as gateway,
        aiohttp.ClientSession() as session,
    ):

        def script(_call: Call) -> list[Step]:
            for writer in service._writers:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads has it
            return [head % len(body) + body, "hang"]

        service.script = script
        for turn in range(1, 4):
            assert succeeded(await ask_native(session, gateway))
            assert service.connections == turn
