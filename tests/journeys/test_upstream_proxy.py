"""An upstream behind a proxy: spoken to through it and only through it, and honest about it when it does not serve."""

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.cli import EXIT_CONFIG
from tests.house import ROOT, eventually, house
from tests.journeys.asking import ask_all, ask_native, assert_all_failed, succeeded
from tests.journeys.certificates import make_certificate, server_context, tls_upstream
from tests.upstream import Upstream, upstream

CREDENTIALS = "Basic " + base64.b64encode(b"al@ice:secret").decode()


class Proxy:
    """Forwards requests and opens tunnels on a real socket; `instead` is what it says instead, None for nothing."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.instead: bytes | None = b""
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, whose requests all go to the same upstream."""
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            if self.instead is None:
                await reader.read()
            elif self.instead:
                writer.write(self.instead)
            else:
                await self._pass_on(head, reader, writer)
        writer.close()

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split(b" ", 2)
        authority = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = authority.decode().rpartition(":")
        there, onward = await asyncio.open_connection(host, int(port))
        self._writers.append(onward)
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: us\r\n\r\n")
        else:
            onward.write(head)
        back = asyncio.create_task(_pump(there, writer))
        await _pump(reader, onward)
        await back

    def close(self) -> None:
        """Leave nobody hanging."""
        for writer in self._writers:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what the developer has set reaches these tests."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """One that the environment names for everything."""
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"http://al%40ice:secret@127.0.0.1:{proxy.port}")
    yield proxy
    server.close()
    proxy.close()


@contextlib.asynccontextmanager
async def trusted_upstream(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> AsyncIterator[Upstream]:
    """An upstream whose certificate is for `name`, and trusted."""
    certificate = make_certificate(folder / "tls", name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with tls_upstream(server_context(certificate)) as service:
        yield service


def headers(head: str) -> dict[str, str]:
    """The headers of a request, by lower-case name."""
    lines = (line.partition(": ") for line in head.strip().split("\r\n")[1:])
    return {name.lower(): value for name, _, value in lines}


async def test_plain_http_goes_through_the_proxy(proxy: Proxy) -> None:
    """With the whole URL, its query too, the upstream's Host, the proxy's credentials; and is used again."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=f"{service.url}?api-version=1", OPENAI_API_KEY="house-key") as gateway,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(2):
            assert succeeded(await ask_native(session, gateway))
            await eventually(lambda: gateway.hub.running == 0)
    (head,) = proxy.heads
    assert head.startswith(f"POST {service.url}/chat/completions?api-version=1 HTTP/1.1\r\n")
    said = headers(head)
    assert said["host"] == f"127.0.0.1:{service.port}"
    assert said["proxy-authorization"] == CREDENTIALS
    assert said["authorization"] == "Bearer house-key"
    assert len(service.calls) == 2


async def test_tls_goes_through_a_tunnel(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy hears where to and its own credentials, and nothing else; the upstream hears nothing of the proxy."""
    async with (
        trusted_upstream(tmp_path, monkeypatch, "IP:127.0.0.1") as service,
        house(OPENAI_BASE_URL=service.url, OPENAI_API_KEY="house-key") as gateway,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(2):
            assert succeeded(await ask_native(session, gateway))
            await eventually(lambda: gateway.hub.running == 0)
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT 127.0.0.1:{service.port} HTTP/1.1\r\n")
    assert headers(head) == {"host": f"127.0.0.1:{service.port}", "proxy-authorization": CREDENTIALS}
    assert [call.path for call in service.calls] == ["/v1/chat/completions"] * 2
    assert not {"proxy-authorization", "via"} & set(service.calls[0].headers)
    assert service.calls[0].headers["authorization"] == "Bearer house-key"


async def test_a_tunnel_does_not_stand_for_the_upstream(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the upstream's certificate that must be good."""
    async with (
        trusted_upstream(tmp_path, monkeypatch, "DNS:proxy.example") as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
    ):
        assert_all_failed(await ask_all(gateway), "UPSTREAM_TLS", 502)
    assert not service.calls
    assert len(proxy.heads) == 3


async def test_an_upstream_that_is_spared_is_asked_directly(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY names it."""
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway:
        assert all(succeeded(seen) for seen in await ask_all(gateway))
    assert not proxy.heads


FORBIDDEN = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Type: text/html\r\n"
    b"Content-Length: 2\r\n\r\nno"
)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("instead", "code", "status"),
    [
        (FORBIDDEN, "UPSTREAM_UNAVAILABLE", 502),
        (None, "UPSTREAM_TIMEOUT", 504),
        (b"HTTP/1.1 ", "UPSTREAM_UNAVAILABLE", 502),
    ],
    ids=["407", "silence", "half a head"],
)
async def test_a_proxy_that_does_not_serve(
    proxy: Proxy, scheme: str, instead: bytes | None, code: str, status: int
) -> None:
    """What it says of itself is no answer of the upstream's, and a 407 no status for our client."""
    proxy.instead = instead
    limits = {"GATEWAY_OPENAI__CONNECT_S": "0.3", "GATEWAY_STREAM__FIRST_TOKEN_S": "0.3"}
    async with house(OPENAI_BASE_URL=f"{scheme}://127.0.0.1:9/v1", **limits) as gateway:
        assert_all_failed(await ask_all(gateway), code, status)
    assert len(proxy.heads) == 3


@pytest.mark.parametrize("said", [b"\r\n\r\n", b"200\r\n\r\n", b"HTTP/1.1 503 200\r\n\r\n", b"x" * 20_000])
async def test_what_is_no_yes_of_a_proxy_opens_no_tunnel(proxy: Proxy, said: bytes) -> None:
    """Nothing is sent on through what may be anything."""
    proxy.instead = said
    async with house(OPENAI_BASE_URL="https://127.0.0.1:9/v1") as gateway:
        assert_all_failed(await ask_all(gateway), "UPSTREAM_UNAVAILABLE", 502)


async def test_a_proxy_that_is_not_there_is_unavailable(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream is not asked around it."""
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway:
        assert_all_failed(await ask_all(gateway), "UPSTREAM_UNAVAILABLE", 502)
    assert not service.calls


async def test_a_percent_sign_is_just_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the path, the query and the key alike."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=f"{service.url}/my%20model/%d?a=%b", OPENAI_API_KEY="100%d%b%%") as gateway,
    ):
        assert all(succeeded(seen) for seen in await ask_all(gateway))
    assert service.calls[0].path == "/v1/my%20model/%d/chat/completions?a=%b"
    assert service.calls[0].headers["authorization"] == "Bearer 100%d%b%%"


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OPENAI_BASE_URL", "http://user:secret@127.0.0.1/v1", "must hold no user"),
        ("OPENAI_BASE_URL", "http://127.0.0.1/v1#secret", "must hold no user and no fragment"),
        ("OPENAI_BASE_URL", "http://secret..example/v1", "has no good host"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:secret/v1", "must name a host, and a port"),
        ("HTTPS_PROXY", "socks5://secret:1080", "the proxy for https is not an http:// one"),
        ("ALL_PROXY", "http://secret@127.0.0.1:port", "the proxy for https has no good port"),
    ],
)
def test_what_leads_nowhere_is_told_before_anything_is_served(command: str, name: str, value: str, reason: str) -> None:
    """In one line, with the exit status of a wrong setting, and without what may be a secret."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "OPENAI_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", command],
        env={**clean, "GATEWAY_SERVER__PORT": "0", "OPENAI_API_KEY": "house-key", name: value},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == EXIT_CONFIG
    assert reason in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "secret" not in ended.stderr + ended.stdout
    assert ended.stdout == ""
