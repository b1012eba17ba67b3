"""Connections that we make: no name leads inside, and no redirect or proxy carries a secret to a stranger."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.transport.guard import networks_of
from gateway.webhooks.post import HttpPost, Reply
from tests.house import house
from tests.journeys.asking import ask_native, ask_openai
from tests.receiver import LOOPBACK, Receiver
from tests.upstream import Upstream

SECRET = "sk-canary"
LITERALS = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:7f00:1]"]
SPELLINGS = ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "017700000001", "127.0.1", "127.0.0.1.", "0"]
NAMES = ["localhost", "localhost.", "receiver.example"]


@dataclass
class Resolver(AbstractResolver):
    """Answers with the next of `answers`, then for ever with the last of them."""

    answers: list[list[str]]
    asked: int = field(default=0)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Whatever the name is."""
        addresses = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Inside:
    """Something on loopback that must never be reached; counts who comes all the same."""

    def __init__(self) -> None:
        self.visits = 0
        self.port = 0

    def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


@contextlib.asynccontextmanager
async def inside(*hosts: str, port: int = 0) -> AsyncIterator[Inside]:
    """On the same port of all these addresses."""
    found = Inside()
    async with contextlib.AsyncExitStack() as stack:
        for host in hosts:
            server = await asyncio.start_server(found._visited, host, port or found.port)
            await stack.enter_async_context(server)
            found.port = server.sockets[0].getsockname()[1]
        yield found


async def attempt(post: HttpPost, url: str) -> Reply:
    """One, with a secret in it."""
    return await post(url, b"{}", {"webhook-signature": SECRET})


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", [*LITERALS, *SPELLINGS, *NAMES])
async def test_no_spelling_leads_inside_even_where_no_url_is_checked(host: str, scheme: str) -> None:
    """The guard at the socket stands alone: no connection is made."""
    async with inside("127.0.0.1", "::1") as secret:
        post = HttpPost((), timeout_s=5, resolver=Resolver([["127.0.0.1", "::1", "::ffff:127.0.0.1"]]))
        reply = await attempt(post, f"{scheme}://{host}:{secret.port}/")
        await post.close()
    assert reply.result in ("blocked", "unreachable")
    assert secret.visits == 0


async def test_no_answer_of_the_real_resolver_leads_inside() -> None:
    """Names of this machine."""
    async with inside("127.0.0.1", "::1") as secret:
        post = HttpPost((), timeout_s=5)
        for name in ("localhost", "localhost.", "ip6-localhost"):
            assert (await attempt(post, f"https://{name}:{secret.port}/")).result in ("blocked", "unreachable")
        await post.close()
    assert secret.visits == 0


async def test_a_name_that_changes_its_meaning_between_two_lookups_leads_nowhere() -> None:
    """DNS rebinding: good when it was looked at, inside when it is connected to, and the reverse."""
    async with Receiver(headers={"Connection": "close"}) as receiver:
        url = f"http://receiver.example:{receiver.port}/hook"
        networks = networks_of(["127.0.0.1"])
        async with inside("127.0.0.2", port=receiver.port) as secret:
            resolver = Resolver([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2"]])
            post = HttpPost(networks, timeout_s=5, resolver=resolver)
            results = [(await attempt(post, url)).result for _ in range(4)]
            await post.close()
    assert results == ["ok", "blocked", "ok", "blocked"]
    assert resolver.asked == 4
    assert len(receiver.got) == 2
    assert secret.visits == 0


async def test_what_is_not_encrypted_goes_to_no_public_address() -> None:
    """A name that is allowed inside by http may mean one."""
    post = HttpPost(networks_of([LOOPBACK]), timeout_s=5, resolver=Resolver([["93.184.215.14"]]))
    assert await attempt(post, "http://receiver.example/") == Reply("blocked")
    await post.close()


@pytest.mark.parametrize("order", [1, -1], ids=["inside first", "inside last"])
async def test_of_several_addresses_only_the_good_ones_are_tried(order: int) -> None:
    """Each attempt of happy eyeballs is looked at, in either family."""
    async with Receiver() as receiver, inside("127.0.0.2", "::1", port=receiver.port) as secret:
        answer = ["127.0.0.2", "::1", "127.0.0.1"][::order]
        post = HttpPost(networks_of(["127.0.0.1"]), timeout_s=5, resolver=Resolver([answer]))
        assert await attempt(post, f"http://receiver.example:{receiver.port}/") == Reply("ok")
        await post.close()
    assert secret.visits == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_of_a_receiver_is_not_followed(status: int) -> None:
    """Neither inside nor to anybody else; the signature goes nowhere."""
    async with inside("127.0.0.1") as secret, Receiver(status=status) as receiver:
        receiver.headers["Location"] = f"http://127.0.0.1:{secret.port}/"
        post = HttpPost(networks_of([LOOPBACK]), timeout_s=5)
        assert await attempt(post, receiver.url) == Reply("redirected")
        await post.close()
    assert len(receiver.got) == 1
    assert secret.visits == 0


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxies but those that a test sets."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


async def test_a_proxy_of_the_environment_is_not_used(proxies: pytest.MonkeyPatch) -> None:
    """It would connect to whatever it is told, behind the guard's back."""
    async with inside("127.0.0.1") as proxy, Receiver() as receiver:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            proxies.setenv(name, f"http://127.0.0.1:{proxy.port}")
            proxies.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
        post = HttpPost(networks_of([LOOPBACK]), timeout_s=5)
        assert await attempt(post, receiver.url) == Reply("ok")
        await post.close()
    assert proxy.visits == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_upstreams_key_follows_no_redirect(status: int) -> None:
    """It is for the host that was configured, and for no other."""
    async with inside("127.0.0.1") as stranger:
        head = f"HTTP/1.1 {status} Elsewhere\r\nLocation: http://127.0.0.1:{stranger.port}/v1/chat/completions\r\n"
        script = [f"{head}Content-Length: 0\r\n\r\n".encode()]
        async with (
            Upstream(script) as up,
            house(OPENAI_BASE_URL=up.url, OPENAI_API_KEY=SECRET) as gateway,
            aiohttp.ClientSession() as session,
        ):
            native = await ask_native(session, gateway)
            compatible = await ask_openai(session, gateway)
        assert up.calls
        assert all(call.headers["authorization"] == f"Bearer {SECRET}" for call in up.calls)
    assert "error" in native.names
    assert compatible.status >= 400
    assert stranger.visits == 0
    assert SECRET.encode() not in native.body + compatible.body
