"""The teller: who is told what of a stream; it never waits, never raises, and lets no target hold up another."""

import asyncio
from collections.abc import Mapping

import orjson
import pytest
from pydantic import SecretStr

from gateway.admission.tenant import WebhookTarget
from gateway.request import Caller
from gateway.webhooks.lane import Policy
from gateway.webhooks.post import Reply
from gateway.webhooks.teller import Teller
from tests.bench import ENDLESS, WHOLE, Bench, over
from tests.doubles import RecordingMetrics
from tests.house import eventually
from tests.receiver import new_secret


class Posts:
    """Remembers what was sent where; at a URL in `hanging` it never ends."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, object]]] = []
        self.hanging: set[str] = set()
        self.closed = False

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.sent.append((url, orjson.loads(body)))
        if url in self.hanging:
            await asyncio.sleep(3600)
        return Reply("ok")

    async def close(self) -> None:
        self.closed = True

    def types(self, url: str) -> list[object]:
        """What was told there, in order."""
        return [told["type"] for to, told in self.sent if to == url]


def target(name: str, *events: str) -> WebhookTarget:
    """A good one."""
    return WebhookTarget(f"https://{name}.example/", (SecretStr(new_secret()),), events)


class House:
    """A hub whose streams are told."""

    def __init__(self, bench: Bench, own: WebhookTarget | None = None, **tenants: WebhookTarget) -> None:
        self.bench = bench
        self.posts = Posts()
        self.tenants = tenants
        self.metrics = RecordingMetrics()
        self.teller = Teller(
            self.posts, Policy(6, 10), own=own, target_of=self.tenants.get, networks=(), metrics=self.metrics
        )
        bench.hub.witnesses.append(self.teller)

    async def stream(self, tenant: str, **request: str) -> None:
        """One of theirs, whole."""
        await over((await self.bench.open(*WHOLE, caller=Caller(tenant), **request)).stream)


async def test_a_tenant_is_told_of_its_own_streams_and_the_operator_of_all(bench: Bench) -> None:
    """And nobody of another's."""
    house = House(bench, target("operator"), acme=target("acme"), beta=target("beta"))
    await house.stream("acme")
    await house.stream("nobody")
    await eventually(lambda: len(house.posts.sent) == 6)
    assert house.posts.types("https://acme.example/") == ["stream.opened", "stream.completed"]
    assert house.posts.types("https://beta.example/") == []
    tenants = [told["data"]["tenant"] for to, told in house.posts.sent if "operator" in to]  # type: ignore[index]  # JSON
    assert sorted(tenants) == ["acme", "acme", "nobody", "nobody"]
    await house.teller.close(0)


async def test_only_the_events_that_a_target_names_are_told(bench: Bench) -> None:
    """Each target its own."""
    house = House(bench, target("operator", "stream.opened"), acme=target("acme", "stream.completed"))
    await house.stream("acme")
    await eventually(lambda: len(house.posts.sent) == 2)
    assert house.posts.types("https://acme.example/") == ["stream.completed"]
    assert house.posts.types("https://operator.example/") == ["stream.opened"]
    await house.teller.close(0)


async def test_a_rollback_is_told_to_the_operator_alone(bench: Bench) -> None:
    """With the flag and the reason."""
    house = House(bench, target("operator"), acme=target("acme"))
    house.teller.rolled_back("streaming", "error rate 3.1 % over 2 %")
    await eventually(lambda: bool(house.posts.sent))
    [(url, told)] = house.posts.sent
    assert url == "https://operator.example/"
    assert told["type"] == "flag.rolled_back"
    assert told["data"] == {"flag": "streaming", "reason": "error rate 3.1 % over 2 %"}
    await house.teller.close(0)


async def test_what_another_process_goes_on_with_is_not_told_as_ended(bench: Bench) -> None:
    """That one will tell it."""
    house = House(bench, target("operator"))
    await bench.open(*ENDLESS)
    await bench.hub.let_go_all()
    await eventually(lambda: len(house.posts.sent) == 1)
    await asyncio.sleep(0)
    assert house.posts.types("https://operator.example/") == ["stream.opened"]
    await house.teller.close(0)


async def test_a_target_that_hangs_delays_no_other(bench: Bench) -> None:
    """And no stream."""
    house = House(bench, acme=target("acme"), beta=target("beta"))
    house.posts.hanging = {"https://acme.example/"}
    for _ in range(8):
        await house.stream("acme")
    await house.stream("beta")
    await eventually(lambda: len(house.posts.types("https://beta.example/")) == 2)
    await house.teller.close(0.05)
    assert house.posts.closed
    assert ("lost", 10) in house.metrics.of("webhooks_ended")


async def test_a_target_that_cannot_be_used_is_said_once_and_costs_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Streams go on; when it is mended it is used."""
    bad = WebhookTarget("https://127.0.0.1/CANARY", (SecretStr(new_secret()),))
    house = House(bench, acme=bad)
    for _ in range(3):
        await house.stream("acme")
    said = [record for record in caplog.records if "webhook" in record.getMessage()]
    assert len(said) == 1
    assert "CANARY" not in caplog.text
    house.tenants["acme"] = target("acme")
    await house.stream("acme")
    await eventually(lambda: len(house.posts.sent) == 2)
    await house.teller.close(0)


async def test_a_fault_in_telling_reaches_no_stream(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with a message."""
    house = House(bench, acme=target("acme"))

    def broken() -> float:
        raise RuntimeError("the clock is broken")

    house.teller._now_s = broken
    await house.stream("acme")
    assert "a webhook could not be made" in caplog.text
    await house.teller.close(0)


async def test_without_any_target_nothing_is_made(bench: Bench) -> None:
    """The usual case costs two look-ups."""
    house = House(bench)
    await house.stream("acme")
    house.teller.rolled_back("streaming", "x")
    assert house.metrics.said == []
    await house.teller.close(5)
