"""A client's slots, beyond one process: whoever goes on with its stream counts it for the same client."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.house import eventually, gateway_process, house, see
from tests.redis_server import RedisServer
from tests.tenancy import ACME_HASH, ACME_KEY, ACME_PAGE, SESSION, bearer, write

SLOT_LEASE_S = 1.0
QUESTION = {"query": "How does resume work?", "max_tokens": 200, "on_disconnect": "detach"}
SETTINGS = {
    "GATEWAY_LOCAL__TOKENS_PER_S": "10",
    "GATEWAY_REDIS__LEASE_S": "0.5",
    "GATEWAY_LIMITS__LEASE_S": str(SLOT_LEASE_S),
    "GATEWAY_LIMITS__CONCURRENT_PER_CLIENT": "1",
}
STRANGER = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE}


@pytest.mark.parametrize(
    ("headers", "again"),
    [
        (bearer(ACME_KEY), bearer(ACME_KEY)),
        (STRANGER | {"X-Session-Id": SESSION}, STRANGER | {"X-Session-Id": "a-session-that-was-made-up"}),
    ],
    ids=["known by its address", "a stranger with another session"],
)
async def test_a_client_whose_stream_was_taken_over_has_no_slot_more(
    tmp_path: Path, redis_server: RedisServer, headers: dict[str, str], again: dict[str, str]
) -> None:
    """Long after the lease of the process that died, and until the stream ends."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path)), "REDIS_URL": redis_server.url, **SETTINGS}
    async with aiohttp.ClientSession() as web:
        with gateway_process(port=None, **environment) as one:
            async with house(**environment) as two:
                seen = await see(web, "POST", f"{one.base}/stream", headers=headers, json=QUESTION, upto=6)
                sid = str(seen.headers["X-Stream-Id"])
                one.kill()
                await eventually(lambda: two.hub.runs(sid), 10)
                await asyncio.sleep(1.5 * SLOT_LEASE_S)
                refused = await see(web, "POST", f"{two.urls[0]}/stream", headers=again, json=QUESTION)
                assert (refused.status, refused.json()["code"]) == (429, "TOO_MANY_STREAMS")
