"""Every refusal, provoked for real: a house that must refuse, a request that it must refuse, and its answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson

from gateway.admission.keys import digest_of, written
from gateway.app.house import Gateway
from tests.house import Seen, eventually, free_port, house, see
from tests.journeys.asking import COMPLETION
from tests.journeys.certificates import make_certificate, server_context, tls_upstream
from tests.journeys.wire import SID, answer_to, bare
from tests.upstream import Step, chunk, chunked, upstream

NATIVE, OPENAI = "native", "openai"
PATHS = {NATIVE: "/stream", OPENAI: "/v1/chat/completions"}
QUESTIONS: dict[str, dict[str, Any]] = {
    NATIVE: {"query": "hi"},
    OPENAI: {**COMPLETION, "model": "local", "stream": True},
}
BEGUN: list[Step] = ["headers", chunked(chunk({"content": "x" * 5000})), "hang"]
KEY, PUBLIC, PAGE = "sk-of-the-shop", "pub-shop-window", "https://shop.example"
BY_KEY = {"X-API-Key": KEY}

Provoke = Callable[[str], Awaitable[Seen]]


@contextlib.asynccontextmanager
async def client(**settings: str) -> AsyncIterator[tuple[Gateway, aiohttp.ClientSession]]:
    """A house with these settings, and a client of it."""
    async with house(**settings) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        yield gateway, session


async def ask(session: aiohttp.ClientSession, dialect: str, *, change: Any = None, **options: Any) -> Seen:
    """A good question in that dialect, but for these fields and options."""
    if "data" not in options:
        options["json"] = {**QUESTIONS[dialect], **(change or {})}
    return await see(session, "POST", PATHS[dialect], **options)


def asked(*, settings: dict[str, str] | None = None, **options: Any) -> Provoke:
    """Provoked by one request to a house with these settings."""

    async def provoke(dialect: str) -> Seen:
        async with client(**(settings or {})) as (_, session):
            return await ask(session, dialect, **options)

    return provoke


def fetched(method: str, native: str, openai: str, **settings: str) -> Provoke:
    """Provoked by a request without a body, to a path of each dialect."""

    async def provoke(dialect: str) -> Seen:
        async with client(**settings) as (_, session):
            return await see(session, method, native if dialect == NATIVE else openai)

    return provoke


def sent(make: Callable[[str], bytes], **settings: str) -> Provoke:
    """Provoked byte by byte."""

    async def provoke(dialect: str) -> Seen:
        async with house(**settings) as gateway:
            status, head, body = await answer_to(gateway, make(dialect))
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line]
        return Seen(status, dict(lines), body=body)

    return provoke


def headed(line: str, *headers: str) -> Provoke:
    """Provoked by a head that is not as it should be."""
    return sent(lambda _: bare(line, *headers))


def unsent(dialect: str) -> bytes:
    """A head that promises more body than comes."""
    return bare(f"POST {PATHS[dialect]}", "Content-Type: application/json", "Content-Length: 99")


@contextlib.contextmanager
def shop(**tables: str) -> Iterator[dict[str, str]]:
    """The setting of a house with one tenant, known by `KEY` and `PUBLIC`, and these tables of it."""
    lines = [
        f'[tenants.shop]\nkeys = ["{written(digest_of(KEY))}"]',
        f'public_hash = "{PUBLIC}"',
        f'origins = ["{PAGE}"]',
    ]
    lines += [f"[tenants.shop.{name}]\n{text}" for name, text in tables.items()]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tenants.toml"
        path.write_text("\n".join(lines))
        path.chmod(0o600)
        yield {"GATEWAY_TENANTS__FILE": str(path)}


def at_the_shop(*, attempts: int = 1, tables: dict[str, str] | None = None, **options: Any) -> Provoke:
    """Provoked by one request to a house with a tenant, or by the last of several."""

    async def provoke(dialect: str) -> Seen:
        with shop(**(tables or {})) as settings:
            async with client(**settings) as (_, session):
                for _ in range(attempts - 1):
                    await ask(session, dialect, **options)
                return await ask(session, dialect, **options)

    return provoke


async def crowded(dialect: str) -> Seen:
    """A second stream for a client that may have one."""
    with shop(limits="concurrent_per_client = 1") as settings:
        async with upstream(BEGUN) as service, client(OPENAI_BASE_URL=service.url, **settings) as (_, session):
            await ask(session, NATIVE, headers=BY_KEY, upto=4)
            return await ask(session, dialect, headers=BY_KEY)


async def spent(dialect: str) -> Seen:
    """A question when the day's tokens are used up: those of an answer are counted within a second."""
    with shop(limits="tokens_per_day = 1") as settings:
        async with client(**settings) as (_, session), asyncio.timeout(10):
            while (seen := await ask(session, dialect, headers=BY_KEY)).status == 200:  # noqa: ASYNC110  # another question is what it waits for
                await asyncio.sleep(0.05)
            return seen


def by_upstream(*steps: Step, **settings: str) -> Provoke:
    """Provoked by what the upstream does before it has said anything."""

    async def provoke(dialect: str) -> Seen:
        async with upstream(list(steps)) as service, client(OPENAI_BASE_URL=service.url, **settings) as (_, session):
            return await whole(session, dialect)

    return provoke


async def whole(session: aiohttp.ClientSession, dialect: str, model: str = "up-1") -> Seen:
    """The answer in one piece, in that dialect: what fails before its end is a status."""
    headers = {"Accept": "application/json"}
    change = {"model": model} if dialect == NATIVE else {"model": model, "stream": False}
    return await ask(session, dialect, change=change, headers=headers)


def full(*, waits: bool = False, **settings: str) -> Provoke:
    """Provoked by a second question, while the first is being answered; one that `waits` is told when it has ended."""

    async def provoke(dialect: str) -> Seen:
        async with (
            upstream(BEGUN) as service,
            client(OPENAI_BASE_URL=service.url, **settings) as (gateway, session),
        ):
            await see(session, "POST", "/stream", json=QUESTIONS[NATIVE], upto=4)
            await eventually(lambda: gateway.hub.running == 1)
            return await whole(session, dialect) if waits else await ask(session, dialect)

    return provoke


async def untrusted(dialect: str) -> Seen:
    """The upstream's certificate is signed by nobody that is known."""
    with TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder) / "tls", "IP:127.0.0.1")
        async with tls_upstream(server_context(certificate)) as service, client(OPENAI_BASE_URL=service.url) as found:
            return await whole(found[1], dialect)


async def draining(dialect: str) -> Seen:
    """The process is going away."""
    async with client() as (gateway, session):
        gateway.hub.draining = True
        return await ask(session, dialect)


async def broken(dialect: str) -> Seen:
    """A fault of ours."""

    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    async with client() as (gateway, session):
        gateway.catalog.pipeline_for = fail  # type: ignore[method-assign, assignment]  # a fault of ours
        return await ask(session, dialect)


async def expired(dialect: str) -> Seen:
    """A stream that is no longer kept."""
    async with client(GATEWAY_STREAM__RETENTION_S="0.01") as (gateway, session):
        sid = (await ask(session, NATIVE)).headers["X-Stream-Id"]
        await eventually(lambda: gateway.hub.running == 0)
        await asyncio.sleep(0.02)
        gateway._store.sweep()
        return await see(session, "GET", f"/stream/{sid}", params={"dialect": dialect})


async def mismatched(dialect: str) -> Seen:
    """The same key with another question."""
    async with client() as (_, session):
        for said in ({}, {"temperature": 0.5}):
            seen = await ask(session, dialect, change=said, headers={"Idempotency-Key": "k-1"})
        return seen


def ended(end: Callable[[Gateway, aiohttp.ClientSession], Awaitable[Any]]) -> Provoke:
    """Provoked by what ends the stream, while it is waited for."""

    async def provoke(dialect: str) -> Seen:
        async with (
            upstream(["headers", "hang"]) as service,
            client(OPENAI_BASE_URL=service.url) as (gateway, session),
        ):
            asking = asyncio.create_task(whole(session, dialect))
            await eventually(lambda: gateway.hub.running == 1 and service.calls)
            await end(gateway, session)
            return await asking

    return provoke


async def cancel(gateway: Gateway, session: aiohttp.ClientSession) -> None:
    """Whoever else knows the stream cancels it."""
    (sid,) = gateway.hub._running
    await session.delete(f"/stream/{sid}")


def away() -> dict[str, str]:
    """Settings of a house whose shared store does not answer."""
    return {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0", "GATEWAY_REDIS__WHEN_AWAY": "refuse"}


def nowhere() -> dict[str, str]:
    """Settings of a house whose upstream is not there."""
    return {"OPENAI_BASE_URL": f"http://127.0.0.1:{free_port()}/v1"}


def is_of(dialect: str, seen: Seen) -> dict[str, Any]:
    """The error in a refusal, which must have that dialect's own shape."""
    assert seen.headers["Content-Type"].startswith("application/json")
    said: dict[str, Any] = orjson.loads(seen.body)
    if dialect == OPENAI:
        assert set(said) == {"error"}
        assert set(said["error"]) == {"message", "type", "param", "code"}
        inner: dict[str, Any] = said["error"]
        return inner
    assert {"status", "code", "message", "error", "retryable", "timestamp"} <= set(said)
    assert set(said) <= {"status", "code", "message", "error", "retryable", "timestamp", "field", "allowed"}
    return said


UNKNOWN = f"/stream/{SID}"
