"""Webhooks: whoever is told of streams hears of each what became of it, signed, and nothing that was said in it."""

import asyncio
import urllib.request
from typing import Any

import aiohttp
import pytest

from gateway.app.house import Gateway
from tests.documents import blocks
from tests.house import FAST, eventually, free_port, gateway_process, house, see
from tests.journeys.asking import ask_native
from tests.receiver import LOOPBACK, Delivery, Receiver, new_secret
from tests.upstream import Upstream, chunk, chunked

CHECK = next(block.code for block in blocks() if "def verified(" in block.code)


def receivers_check() -> Any:
    """The function `verified` of the documentation."""
    names: dict[str, Any] = {}
    exec(CHECK, names)  # what readers of the documentation are told to run
    return names["verified"]


def told_to(receiver: Receiver, *secrets: str, **settings: str) -> dict[str, Any]:
    """The settings of a gateway whose operator is told there."""
    named = {f"GATEWAY_WEBHOOKS__{name.upper()}": value for name, value in settings.items()}
    return {
        "GATEWAY_WEBHOOKS__URL": receiver.url,
        "GATEWAY_WEBHOOKS__SECRETS": ",".join(secrets),
        "GATEWAY_WEBHOOKS__ALLOW_NETWORKS": LOOPBACK,
        **named,
    }


def verify(delivery: Delivery, secret: str) -> dict[str, Any]:
    """What a receiver has of it that does as the documentation says."""
    told: dict[str, Any] = receivers_check()(delivery.headers, delivery.body, secret)
    return told


async def test_a_stream_that_completes_is_told_twice_with_good_signatures() -> None:
    """Opened, then completed, with usage and times, without a word of question or answer."""
    secret = new_secret()
    async with (
        Receiver() as receiver,
        Upstream() as up,
        house(OPENAI_BASE_URL=up.url, **told_to(receiver, secret)) as gateway,
    ):
        async with aiohttp.ClientSession() as session:
            seen = await ask_native(session, gateway, query="CANARY-Q", session_id="s-1")
        await eventually(lambda: len(receiver.got) == 2)
    opened, completed = (verify(delivery, secret) for delivery in receiver.got)
    sid = seen.headers["X-Stream-Id"]
    assert (opened["type"], completed["type"]) == ("stream.opened", "stream.completed")
    assert opened["data"] == {
        "stream_id": sid,
        "tenant": "local",
        "session_id": "s-1",
        "dialect": "native",
        "model": "up-1",
        "created": opened["data"]["created"],
    }
    ended = completed["data"]
    assert {name: ended[name] for name in opened["data"]} == opened["data"]
    assert ended["outcome"] == "ok"
    assert ended["usage"] == {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "reported": True}
    assert 0 <= ended["duration_ms"] < 5000
    assert set(ended) == {*opened["data"], "outcome", "usage", "duration_ms"}
    assert opened["id"] != completed["id"]
    for delivery in receiver.got:
        assert b"CANARY" not in delivery.body
        assert b"Hello" not in delivery.body
        assert delivery.headers["content-type"] == "application/json"


async def test_a_stream_that_fails_is_told_with_its_code() -> None:
    """The upstream breaks off."""
    async with (
        Receiver() as receiver,
        Upstream(["headers", chunked(chunk({"content": "a"})), "rst"]) as up,
        house(OPENAI_BASE_URL=up.url, **told_to(receiver, new_secret())) as gateway,
    ):
        async with aiohttp.ClientSession() as session:
            await ask_native(session, gateway)
        await eventually(lambda: len(receiver.got) == 2)
    data = receiver.got[1].told["data"]
    assert receiver.types == ["stream.opened", "stream.failed"]
    assert (data["code"], data["outcome"]) == ("UPSTREAM_TRUNCATED", "provider_truncated")


async def test_a_stream_that_is_cancelled_is_told() -> None:
    """By whom stands in its outcome."""
    async with (
        Receiver() as receiver,
        Upstream(["headers", chunked(chunk({"content": "a"})), "hang"]) as up,
        house(OPENAI_BASE_URL=up.url, **told_to(receiver, new_secret())) as gateway,
    ):
        async with aiohttp.ClientSession() as session:
            url = f"{gateway.urls[0]}/stream"
            seen = await see(session, "POST", url, json={"query": "hi", "model": "up-1"}, upto=3)
            await session.delete(f"{url}/{seen.headers['X-Stream-Id']}")
        await eventually(lambda: len(receiver.got) == 2)
    assert receiver.types == ["stream.opened", "stream.cancelled"]
    assert receiver.got[1].told["data"]["outcome"] == "caller_cancel"


async def test_only_what_is_named_is_told() -> None:
    """`events` chooses."""
    async with Receiver() as receiver, house(**told_to(receiver, new_secret(), events="stream.completed")) as gateway:
        await ask(gateway)
        await eventually(lambda: bool(receiver.got))
    assert receiver.types == ["stream.completed"]


async def test_a_receiver_that_was_down_hears_each_message_once_when_it_is_up() -> None:
    """What could not be handed over is tried again, in the order in which it happened."""
    receiver = Receiver(port=free_port())
    async with house(**told_to(receiver, new_secret())) as gateway:
        await ask(gateway)
        await eventually(lambda: gateway.metrics.registry.get_sample_value(*ATTEMPTS) == 1)
        await receiver.start(receiver.port)
        await eventually(lambda: len(receiver.got) == 2)
        await asyncio.sleep(0.05)
        assert receiver.types == ["stream.opened", "stream.completed"]
        assert gateway.metrics.registry.get_sample_value("ssegw_webhooks_waiting") == 0
    await receiver.stop()


async def test_a_receiver_that_hangs_holds_up_no_stream_and_no_shutdown() -> None:
    """Beyond `drain_s`; what is lost is said."""
    async with Receiver(hanging=True) as receiver:
        async with house(**told_to(receiver, new_secret(), drain_s="0.1")) as gateway:
            for _ in range(3):
                async with asyncio.timeout(2):
                    await ask(gateway)
            registry = gateway.metrics.registry
        assert registry.get_sample_value("ssegw_webhooks_total", {"outcome": "lost"}) == 6


async def test_what_happens_while_the_process_goes_away_is_told_before_it_has_gone() -> None:
    """A stream that a drain cuts short is told as cancelled."""
    async with Receiver() as receiver:
        slow = {**told_to(receiver, new_secret()), "GATEWAY_LOCAL__FIRST_TOKEN_MS": "60000"}
        async with house(**slow) as gateway, aiohttp.ClientSession() as session:
            await see(session, "POST", f"{gateway.urls[0]}/stream", json={"query": "hi"}, upto=1)
        assert receiver.types == ["stream.opened", "stream.cancelled"]
        assert receiver.got[1].told["data"]["outcome"] == "gateway_drain"


async def test_two_secrets_sign_while_they_are_changed() -> None:
    """A receiver that knows either of them believes."""
    old, new = new_secret(), new_secret()
    async with Receiver() as receiver, house(**told_to(receiver, new, old)) as gateway:
        await ask(gateway)
        await eventually(lambda: len(receiver.got) == 2)
    for secret in (old, new):
        assert verify(receiver.got[0], secret)["type"] == "stream.opened"
    with pytest.raises(ValueError, match="signature"):
        verify(receiver.got[0], new_secret())


def test_no_secret_of_a_webhook_is_ever_written_down() -> None:
    """Neither in the log, whatever goes wrong, nor by `check`, nor in an error about a setting."""
    secret, path = new_secret(), "CANARY-PATH"
    environment: dict[str, Any] = {
        **FAST,
        "GATEWAY_WEBHOOKS__URL": f"http://127.0.0.1:{free_port()}/{path}",
        "GATEWAY_WEBHOOKS__SECRETS": secret,
        "GATEWAY_WEBHOOKS__ALLOW_NETWORKS": LOOPBACK,
        "GATEWAY_WEBHOOKS__ATTEMPTS": "1",
        "GATEWAY_LOGS__LEVEL": "debug",
    }
    with gateway_process(**environment) as process:
        urllib.request.urlopen(f"{process.base}/stream?query=hi", timeout=30).read()
        metrics = urllib.request.urlopen(f"{process.base}/metrics", timeout=30).read()
    assert b"a webhook was given up" in process.stderr
    for text in (process.stderr, metrics):
        assert secret[6:30].encode() not in text
        assert path.encode() not in text


ATTEMPTS = ("ssegw_webhook_attempts_total", {"result": "unreachable"})


async def ask(gateway: Gateway) -> None:
    """One question, answered."""
    async with aiohttp.ClientSession() as session:
        await see(session, "POST", f"{gateway.urls[0]}/stream", json={"query": "hi"})
