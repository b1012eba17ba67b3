"""Row 6, beyond one process: what a credential opened ends with it, also where another process goes on with it."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from gateway.app.house import Gateway
from gateway.events import Failed
from gateway.stores.redis import RedisStore
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
