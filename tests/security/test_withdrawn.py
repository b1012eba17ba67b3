"""Row 6: what a credential opened ends with it, also where another process goes on with it; and so does reading."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.app.house import Gateway
from gateway.events import Failed
from gateway.request import Caller
from gateway.stores.redis import RedisStore
from gateway.streams.stream import Stream
from tests.feed import feed, question
from tests.house import eventually, gateway_process, house, see
from tests.redis_server import RedisServer
from tests.tenancy import ACME_KEY, RIVAL, RIVAL_KEY, SECOND_KEY, TWO, bearer, write

SECOND_ALONE = TWO[: TWO.index('"sha256:')] + TWO[TWO.index("{ hash") :]
"""The tenants without the first key."""

QUESTION = {"query": "How does resume work?", "max_tokens": 200, "on_disconnect": "detach"}
SLOWLY = {"GATEWAY_LOCAL__TOKENS_PER_S": "10", "GATEWAY_REDIS__LEASE_S": "0.5"}


@pytest.mark.parametrize(
    ("text", "other", "withdrawn"),
    [(SECOND_ALONE, SECOND_KEY, "after"), (SECOND_ALONE, SECOND_KEY, "before"), (RIVAL, RIVAL_KEY, "before")],
    ids=["a key that was taken back after", "a key before", "a tenant before"],
)
async def test_row_6_a_stream_that_was_taken_over_ends_with_its_credential(
    tmp_path: Path, redis_server: RedisServer, text: str, other: str, withdrawn: str
) -> None:
    """Whether that is withdrawn while the heir makes it, or before anybody took it over; others go on."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path)), "REDIS_URL": redis_server.url, **SLOWLY}
    async with aiohttp.ClientSession() as web:
        with gateway_process(port=None, **environment) as one:
            async with house(**environment) as two:
                lost, kept = [await begun(web, one.base, key) for key in (ACME_KEY, other)]
                if withdrawn == "before":
                    await withdraw(two, tmp_path, text)
                one.kill()
                if withdrawn == "after":
                    await eventually(lambda: two.hub.runs(lost) and two.hub.runs(kept), 10)
                    await withdraw(two, tmp_path, text)
                assert await failure(two, lost) == "UNAUTHENTICATED"
                await eventually(lambda: two.hub.runs(kept), 10)
                assert two.hub.running == 1
                assert (await see(web, "GET", f"{two.urls[0]}/stream/{lost}", headers=bearer(ACME_KEY))).status == 401


async def begun(web: aiohttp.ClientSession, base: str, key: str) -> str:
    """A stream of which something was said."""
    seen = await see(web, "POST", f"{base}/stream", headers=bearer(key), json=QUESTION, upto=6)
    return str(seen.headers["X-Stream-Id"])


async def withdraw(gateway: Gateway, folder: Path, text: str) -> None:
    """These are the tenants from now on."""
    write(folder, text)
    assert await gateway.tenants.reload() == ""


async def failure(gateway: Gateway, sid: str) -> str:
    """The code with which a stream ends, soon."""
    assert isinstance(gateway._store, RedisStore)
    async with asyncio.timeout(10):
        while not (stream := await gateway._store.look_up(sid)).ended:  # noqa: ASYNC110  # the sweeper tells nobody
            await asyncio.sleep(0.02)
    assert isinstance(stream.terminal, Failed)
    return stream.terminal.code


ALICE = {"X-User-Id": "alice"}


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_row_6_who_reads_another_keys_stream_is_cut_with_its_own_key(tmp_path: Path, accept: str) -> None:
    """Within five seconds, streamed to or waiting for the whole; the stream and its own readers go on."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path))}
    async with (
        feed() as service,
        house(OPENAI_BASE_URL=service.url, **environment) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        asked = {"query": question(1_000, 20)}
        opener = await session.post("/stream", headers={**bearer(SECOND_KEY), **ALICE}, json=asked)
        path = f"/stream/{opener.headers['X-Stream-Id']}"
        lost, kept = [
            asyncio.create_task(read_on(session, path, {**bearer(key), **ALICE, "Accept": accept}))
            for key in (ACME_KEY, SECOND_KEY)
        ]
        await eventually(lambda: len(gateway.readings) == 3)
        await withdraw(gateway, tmp_path, SECOND_ALONE)
        async with asyncio.timeout(5):
            # A client library may ask again by itself.
            assert await lost in ("cut", "401")
        assert (await see(session, "GET", path, headers={**bearer(ACME_KEY), **ALICE})).status == 401
        assert gateway.hub.running == 1
        assert not kept.done()
        assert len(gateway.readings) == 2
        kept.cancel()
        opener.close()


async def read_on(session: aiohttp.ClientSession, path: str, headers: dict[str, str]) -> str:
    """How a reading ends."""
    try:
        async with session.get(path, headers=headers) as response:
            await response.read()
            return f"{response.status}"
    except (aiohttp.ClientError, ConnectionError):
        return "cut"


@pytest.mark.parametrize("path", ["/stream", "/stream?detach", "/v1/chat/completions"])
async def test_row_6_who_loses_its_key_while_it_asks_opens_nothing(tmp_path: Path, path: str) -> None:
    """A question may come slowly, and the key be taken back meanwhile: 401, and nothing is made of it."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path)), "GATEWAY_LOCAL__TOKENS_PER_S": "1"}
    async with house(**environment) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        withdrawn = asyncio.Event()
        begun = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"model": "local", "messages": '
            begun.set()
            await withdrawn.wait()
            yield b'[{"role": "user", "content": "hi"}]}'

        headers = {**bearer(ACME_KEY), "Content-Type": "application/json"}
        asking = asyncio.create_task(see(session, "POST", path, headers=headers, data=slowly()))
        await begun.wait()
        await asyncio.sleep(0.1)
        await withdraw(gateway, tmp_path, SECOND_ALONE)
        withdrawn.set()
        seen = await asking
        refusal = seen.json()["error"] if path.startswith("/v1/") else seen.json()
        assert (seen.status, refusal["code"]) == (401, "UNAUTHENTICATED")
        await eventually(lambda: gateway.hub.running == 0)
        assert "X-Stream-Id" not in seen.headers


async def test_row_6_who_loses_its_key_while_its_stream_is_looked_for_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look into the store takes its time: the key is asked for again behind it."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path))}
    async with house(**environment) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        asked = await see(session, "POST", "/stream", headers=bearer(SECOND_KEY), json={"query": "hi"})
        find = gateway.hub.find

        async def find_late(sid: str, caller: Caller) -> Stream:
            found = await find(sid, caller)
            await withdraw(gateway, tmp_path, SECOND_ALONE)
            return found

        monkeypatch.setattr(gateway.hub, "find", find_late)
        seen = await see(session, "GET", f"/stream/{asked.headers['X-Stream-Id']}", headers=bearer(ACME_KEY))
        assert (seen.status, seen.json()["code"]) == (401, "UNAUTHENTICATED")
