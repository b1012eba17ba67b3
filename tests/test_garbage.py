"""Nothing that a stream leaves behind waits for the garbage collector: it can look seldom, and finds nothing."""

import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from types import CoroutineType, FrameType, FunctionType, MethodType
from typing import Any

import aiohttp
import pytest

from gateway.app.house import Gateway
from tests.house import eventually, house, see
from tests.upstream import END, HEAD, Call, Step, answer, chunked, streamed, upstream
from tests.wires import TARGETS, Scripted, question, scripted_house, settle

ROUNDS = 10
FORGETFUL = {"GATEWAY_STREAM__STORE_MAX_BYTES": "3000"}
"""A store that keeps no finished stream for long: what it keeps is no garbage yet, whatever it would leave."""

BEGUN = HEAD + b"".join(map(chunked, answer(["Hello"])[:2]))
WHOLE = HEAD + b"".join(map(chunked, answer(["Hello", " world"]))) + END
REFUSED = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
NO_CHUNK = HEAD + chunked(b"data: {nonsense\n\n")

dialects = pytest.mark.parametrize("dialect", TARGETS)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    """A gateway on scripted sockets, which leave no garbage of their own."""
    async with scripted_house(**FORGETFUL) as scripted:
        yield scripted


@dialects
@pytest.mark.parametrize("said", [WHOLE, REFUSED, NO_CHUNK], ids=["whole", "refused", "nonsense"])
async def test_an_answered_stream_leaves_no_cycles(scripted: Scripted, dialect: str, said: bytes) -> None:
    """Well or badly answered, and its client gone."""

    async def one() -> None:
        scripted.request(question(dialect))
        await settle()
        scripted.upstreams[-1].protocol.data_received(said)
        await settle()
        scripted.clients.pop().close()

    assert not await _left_by(one)


@dialects
async def test_a_broken_upstream_leaves_no_cycles(scripted: Scripted, dialect: str) -> None:
    """Its connection is lost in the middle of an answer."""

    async def one() -> None:
        scripted.request(question(dialect))
        await settle()
        scripted.upstreams[-1].protocol.data_received(BEGUN)
        await settle()
        scripted.upstreams.pop().close()
        await settle()
        scripted.clients.pop().close()

    assert not await _left_by(one)


@dialects
async def test_a_client_that_hangs_up_leaves_no_cycles(scripted: Scripted, dialect: str) -> None:
    """Neither its own connection nor the upstream's, which is closed because nobody reads any more."""

    async def one() -> None:
        scripted.request(question(dialect))
        await settle()
        scripted.upstreams[-1].protocol.data_received(BEGUN)
        await settle()
        scripted.clients.pop().close()
        await settle()
        for stream in scripted.streams:
            await scripted.gateway.hub.cancel(stream.sid, stream.owner)
        await settle()
        assert scripted.upstreams.pop().is_closing()

    assert not await _left_by(one)


def _script(call: Call) -> list[Step]:
    """What the question asks for."""
    scripts: dict[str, list[Step]] = {
        "whole": streamed(answer(["Hello", " world"])),
        "refused": [REFUSED],
        "cut": [BEGUN, "rst"],
        "endless": [BEGUN, "hang"],
    }
    return scripts[call.body["messages"][0]["content"]]


@dialects
async def test_streams_on_real_sockets_leave_no_cycles_of_ours(dialect: str) -> None:
    """Good answers, refusals, broken upstreams, clients that hang up, streams that are cancelled, fifty in all."""
    async with (
        upstream(_script) as service,
        house(OPENAI_BASE_URL=service.url, **FORGETFUL) as gateway,
        aiohttp.ClientSession() as session,
    ):
        ask = _asker(session, gateway, dialect)

        async def one() -> None:
            for what in ("whole", "refused", "cut"):
                await ask(what)
            await ask("endless", upto=1)
            await ask("endless", cancel=True)
            await eventually(lambda: not gateway.hub.running)

        assert not _ours(await _left_by(one))


def _asker(session: aiohttp.ClientSession, gateway: Gateway, dialect: str) -> Callable[..., Awaitable[None]]:
    url = gateway.urls[0]

    async def ask(what: str, *, upto: int | None = None, cancel: bool = False) -> None:
        body: dict[str, Any] = {"model": "up-1", "messages": [{"role": "user", "content": what}]}
        body |= {"stream": True} if dialect == "openai" else {"on_disconnect": "cancel"}
        if not cancel:
            await see(session, "POST", url + TARGETS[dialect], upto=upto, json=body)
            return
        async with session.post(url + TARGETS[dialect], json=body) as response:
            async with session.delete(f"{url}/stream/{response.headers['X-Stream-Id']}"):
                pass
            await response.read()

    return ask


async def _left_by(one: Callable[[], Awaitable[None]]) -> Counter[str]:
    """What `one`, done again and again, leaves to the garbage collector, by kind. Its first time does not count."""
    await one()
    await settle()
    gc.collect()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            await one()
            await settle()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return Counter(map(_kind, gc.garbage))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _kind(found: object) -> str:
    """Of what type it is, and of what place in the code where it has one."""
    if isinstance(found, FrameType):
        return f"{found.f_globals.get('__name__')}.{found.f_code.co_qualname} (frame)"
    if isinstance(found, CoroutineType):
        return f"{found.cr_code.co_filename}.{found.__qualname__} (coroutine)"
    if isinstance(found, MethodType):
        found = found.__func__
    if isinstance(found, FunctionType):
        return f"{found.__module__}.{found.__qualname__} (function)"
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _ours(left: Counter[str]) -> dict[str, int]:
    return {kind: count for kind, count in left.items() if "gateway" in kind and not kind.startswith("tests.")}
