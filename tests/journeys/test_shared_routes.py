"""What the routes say of the store that processes share: lists, health, refusals, and a start without it."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest

from gateway.settings import SettingsError, load
from tests.house import eventually, house, see
from tests.redis_server import RedisServer

ALICE, BOB = {"X-User-Id": "alice"}, {"X-User-Id": "bob"}
EVENT_SOURCE = {"Accept": "text/event-stream"}


async def ask(web: aiohttp.ClientSession, base: str, **headers: str) -> str:
    """A stream, read to its end; its name."""
    seen = await see(web, "POST", f"{base}/stream", json={"query": "hi"}, headers=headers)
    return str(seen.headers["X-Stream-Id"])


async def listed(web: aiohttp.ClientSession, base: str, headers: dict[str, str]) -> list[str]:
    """Names of the caller's streams."""
    found: dict[str, Any] = (await see(web, "GET", f"{base}/streams", headers=headers)).json()
    return [stream["stream_id"] for stream in found["streams"]]


@pytest.mark.parametrize("shared", [False, True])
async def test_a_user_s_streams_are_listed_wherever_they_are_made(redis_server: RedisServer, shared: bool) -> None:
    """Nobody else's; who is nobody in particular is refused."""
    settings = {"REDIS_URL": redis_server.url} if shared else {}
    async with house(**settings) as here, aiohttp.ClientSession() as web:
        base = here.urls[0]
        mine, theirs = await ask(web, base, **ALICE), await ask(web, base, **BOB)
        for headers, sid in ((ALICE, mine), (BOB, theirs)):
            for _ in range(60):
                if found := await listed(web, base, headers):
                    break
                await asyncio.sleep(0.05)
            assert found == [sid]
        refused = await see(web, "GET", f"{base}/streams")
        assert refused.status == 400
        if shared:
            async with house(**settings) as other:
                assert await listed(web, other.urls[0], ALICE) == [mine]


async def test_health_shows_the_store_that_is_shared(redis_server: RedisServer) -> None:
    """With its latency; without one it is not mentioned."""
    async with aiohttp.ClientSession() as web:
        async with house(REDIS_URL=redis_server.url) as here:
            seen = (await see(web, "GET", f"{here.urls[0]}/health/streaming")).json()
            assert seen["dependencies"]["redis"]["status"] == "ok"
        async with house() as here:
            assert "redis" not in (await see(web, "GET", f"{here.urls[0]}/health/streaming")).json()["dependencies"]


@pytest.mark.parametrize("when_away", ["accept", "refuse"])
async def test_a_store_that_is_away_refuses_or_not_as_the_settings_say(
    caplog: pytest.LogCaptureFixture, when_away: str
) -> None:
    """The process starts and says so; ready or not, and a browser is told to come back, others 503."""
    with RedisServer() as server:
        url = server.url
    caplog.set_level(logging.WARNING)
    settings = {"REDIS_URL": url, "GATEWAY_REDIS__WHEN_AWAY": when_away, "GATEWAY_REDIS__COMMAND_S": "0.2"}
    async with house(**settings) as here, aiohttp.ClientSession() as web:
        base = here.urls[0]
        assert any("Redis is away" in record.message for record in caplog.records)
        refuses = when_away == "refuse"
        if refuses:
            shared = here._shared
            assert shared is not None
            await eventually(lambda: not shared.takes_streams, 5.0)
        ready = await see(web, "GET", f"{base}/health/ready")
        assert ready.status == (503 if refuses else 200)
        assert (await see(web, "GET", f"{base}/health/streaming")).status == 503
        posted = await see(web, "POST", f"{base}/stream", json={"query": "hi"})
        assert posted.status == (503 if refuses else 200)
        browser = await see(web, "GET", f"{base}/stream?query=hi", headers=EVENT_SOURCE)
        assert browser.status == 200
        if refuses:
            assert posted.json()["code"] == "STORE_AWAY"
            assert ready.json()["status"] == "store_away"
            (told,) = browser.data("status")
            assert (told["state"], told["code"]) == ("retry", "STORE_AWAY")
        unknown = await see(web, "GET", f"{base}/stream/{'0' * 22}")
        assert (unknown.status, unknown.json()["code"]) == (503, "STORE_AWAY")


async def test_a_redis_that_may_evict_streams_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """At the start, not when the first answer is missing."""
    caplog.set_level(logging.WARNING)
    with RedisServer() as server:
        server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        async with house(REDIS_URL=server.url):
            assert any("evict" in record.message for record in caplog.records), caplog.text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_URL", "http://127.0.0.1"),
        ("REDIS_URL", "redis://:secret@:0"),
        ("REDIS_URL", "unix://"),
        ("GATEWAY_REDIS__PREFIX", "a:b"),
        ("GATEWAY_REDIS__FLUSH_MS", "5"),
        ("GATEWAY_REDIS__COMMAND_S", "0"),
        ("GATEWAY_REDIS__LEASE_S", "0"),
        ("GATEWAY_REDIS__WHEN_AWAY", "perhaps"),
        ("GATEWAY_REDIS__PROBE_PORT", "65536"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(variable: str, value: str) -> None:
    """It may hold a password."""
    with pytest.raises(SettingsError, match=variable) as raised:
        load(None, {variable: value})
    assert "secret" not in str(raised.value)
