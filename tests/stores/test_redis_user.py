"""The user of Redis that the documents set up: a fleet works with it, and it may do nothing besides."""

import asyncio
import re
from typing import Any

import aiohttp

from tests.documents import blocks
from tests.house import gateway_process, house, see
from tests.redis_server import RedisServer

SLOW: dict[str, Any] = {"GATEWAY_LOCAL__FIRST_TOKEN_MS": "10", "GATEWAY_LOCAL__TOKENS_PER_S": "60"}
ASKED = {"query": "How does resume work?", "user_id": "u", "max_tokens": 150}


def rule() -> list[str]:
    """The words of the user's line in the documents, without `user` and the name, with a password of ours."""
    line = next(found for block in blocks() for found in re.findall(r"^user gateway (.*)$", block.code, re.MULTILINE))
    return [">secret" if word.startswith(">") else word for word in line.split()]


def allowed() -> set[str]:
    """The commands that the line names."""
    return {word.removeprefix("+").split("|")[0] for word in rule() if word.startswith("+")}


async def test_a_fleet_works_with_the_user_that_the_documents_set_up() -> None:
    """Ask, repeat, list, resume, cancel, take over and say goodbye: nothing is refused, and every right is needed."""
    with RedisServer(tcp=True) as server:
        server.command("ACL", "SETUSER", "gateway", *rule())
        url = server.url.replace("//", "//gateway:secret@")
        server.command("CONFIG", "RESETSTAT")
        await _use(url)
        denied = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in _log_of(server)]
        assert {(entry["reason"], entry["object"]) for entry in denied} <= {
            ("command", "config|get"),
            ("command", "client|setinfo"),
        }
        used = {name.removeprefix("cmdstat_").split("|")[0] for name in server.command("INFO", "commandstats")}
        assert allowed() - used == {"auth"}, "HELLO says who it is"


def _log_of(server: RedisServer) -> list[Any]:
    found = server.command("ACL", "LOG")
    return [entry if isinstance(entry, list) else [word for pair in entry.items() for word in pair] for entry in found]


async def _use(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        with gateway_process(REDIS_URL=url, **SLOW) as first:
            async with house(REDIS_URL=url, **SLOW) as gateway:
                second = gateway.urls[0]
                assert (await see(session, "GET", f"{second}/health/streaming")).status == 200
                sid = await _ask_twice(session, first.base, second)
                listed = await see(session, "GET", f"{second}/streams?user_id=u")
                assert [entry["stream_id"] for entry in listed.json()["streams"]] == [sid]
                await see(session, "DELETE", f"{second}/stream/{sid}?user_id=u")
                ended = await see(session, "GET", f"{second}/stream/{sid}?user_id=u")
                assert ended.data("complete")[0]["status"] == "cancelled"
                await _outlive(session, first, second)


async def _ask_twice(session: aiohttp.ClientSession, first: str, second: str) -> str:
    """The same key at both: one stream."""
    asked = {"json": ASKED, "headers": {"Idempotency-Key": "k"}}
    opened = await see(session, "POST", f"{first}/stream", upto=5, **asked)
    assert opened.status == 200, opened.body
    joined = await see(session, "POST", f"{second}/stream", upto=5, **asked)
    assert joined.status == 200, joined.body
    assert opened.headers["X-Stream-Id"] == joined.headers["X-Stream-Id"]
    return str(opened.headers["X-Stream-Id"])


async def _outlive(session: aiohttp.ClientSession, first: Any, second: str) -> None:
    """Read at one process what the other makes, and kill that one; then wait until it is buried."""
    opened = await see(session, "POST", f"{first.base}/stream", upto=5, json=ASKED)
    sid = opened.headers["X-Stream-Id"]
    reading = asyncio.create_task(see(session, "GET", f"{second}/stream/{sid}?user_id=u"))
    await asyncio.sleep(0.5)
    first.kill()
    first.wait()
    seen = await reading
    assert seen.data("complete")[0]["status"] == "completed"
    assert "continued" in [data["state"] for data in seen.data("status")]
    await asyncio.sleep(2.5)
