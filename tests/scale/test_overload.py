"""Overload is refused, not suffered: at once, in words that each client understands, and only as long as it lasts."""

import asyncio
import resource
import time
from collections.abc import Iterator

import pytest

from tests.feed import feed, question, text
from tests.house import Process, eventually, gateway_process
from tests.load import Client, ask, ask_all, at_scale, get, over, post
from tests.scale.conftest import songs
from tests.scale.figures import becomes, fetch, samples

CONNECTIONS = 60
SPARE = 16
NATIVE = post("/stream", {"query": "verse of elm"})
OPENAI = post(
    "/v1/chat/completions",
    {"model": "local", "stream": True, "messages": [{"role": "user", "content": "verse of elm"}]},
)
VIEWER = get("/stream?query=verse+of+elm")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A gateway with room for few, whose streams last as long as a test."""
    settings = {
        "GATEWAY_LOCAL__DOCUMENTS": songs(tmp_path_factory.mktemp("documents")),
        "GATEWAY_LOCAL__TOKENS_PER_S": "2",
        "GATEWAY_SERVER__MAX_CONNECTIONS": str(CONNECTIONS),
        "GATEWAY_DRAIN__LIMIT_S": "0",
        "GATEWAY_LOGS__LEVEL": "warning",
    }
    with gateway_process(port=None, **settings) as process:
        yield process
    assert len(process.stderr.splitlines()) <= 5, process.stderr.decode()[:2000]


async def speaking(address: tuple[str, int], count: int) -> list[Client]:
    """So many readers that have heard something."""
    readers = await ask_all(address, [NATIVE] * count)
    async with asyncio.timeout(20):
        for reader in readers:
            await reader.reads(1)
    return readers


async def test_one_connection_too_many_is_told_so_in_its_own_words(small: Process) -> None:
    """503 and when to try again, 200 for a browser, answers for those who watch; all are closed; then there is room."""
    address = ("127.0.0.1", small.port)
    readers = await speaking(address, CONNECTIONS)
    began = time.monotonic()
    native, openai, viewer = refused = await ask_all(address, [NATIVE, OPENAI, VIEWER])
    await over(refused)
    assert time.monotonic() - began < 1
    assert (native.status, native.seen().json()["code"]) == (503, "OVERLOADED")
    assert (openai.status, openai.seen().json()["error"]["code"]) == (503, "OVERLOADED")
    assert native.headers["retry-after"] == openai.headers["retry-after"] == "2"
    assert viewer.status == 200
    assert viewer.seen().data("status")[0]["code"] == "OVERLOADED"
    assert b"retry: " in viewer.body
    assert {client.headers["connection"] for client in refused} == {"close"}
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert (await fetch(address, path))[0] == 200
    silent = await ask_all(address, [b""] * SPARE)
    beyond = await ask(address, b"")
    await over([beyond])
    assert (beyond.status, beyond.headers["retry-after"]) == (503, "2")
    for client in [*silent, *readers[:1]]:
        client.close()
    found = await becomes(address, ssegw_connections_open=CONNECTIONS)
    assert found["ssegw_refusals_total{code=OVERLOADED}"] >= 4
    assert not any(reader.done.done() for reader in readers[1:])
    for reader in readers[1:]:
        reader.close()
    await eventually_served(address)


async def eventually_served(address: tuple[str, int]) -> None:
    """Wait for a stream to be opened."""
    async with asyncio.timeout(10):
        while True:
            client = await ask(address, NATIVE)
            await client.reads(1)
            client.close()
            if client.status == 200:
                return
            await asyncio.sleep(0.05)


async def test_a_crowd_at_the_door_of_a_full_house_disturbs_nobody() -> None:
    """Streams at their limit: the excess is refused at once, and those who read go on reading."""
    crowd = at_scale(300, 2000)
    async with feed() as service:
        limits = {"GATEWAY_STREAM__MAX_STREAMS": "20", "GATEWAY_DRAIN__LIMIT_S": "0"}
        with gateway_process(port=None, OPENAI_BASE_URL=service.url, **limits) as process:
            address = ("127.0.0.1", process.port)
            readers = await ask_all(address, [post("/stream", {"query": question(40, 20)})] * 20)
            await eventually(lambda: service.answering == 20)
            began = time.monotonic()
            refused = await ask_all(address, [post("/stream", {"query": question(1)})] * crowd)
            await over(refused)
            print(f"overload: {crowd} refused in {time.monotonic() - began:.2f} s")
            assert {client.status for client in refused} == {503}
            assert {client.headers["retry-after"] for client in refused} == {"2"}
            await over(readers)
            assert {reader.seen().text for reader in readers} == {text(40)}
            found = await samples(address)
            assert found["ssegw_refusals_total{code=OVERLOADED}"] == crowd
            assert service.asked == 20


async def test_few_descriptors_and_a_crowd_make_no_busy_loop(small: Process) -> None:
    """128 descriptors, 60 connections allowed, 400 who come: cheap, quiet, and well again when they have left."""
    usual = resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (128, 20_000))
    address = ("127.0.0.1", small.port)
    crowd = await ask_all(address, [NATIVE] * 400, at_once=400)
    await eventually(lambda: sum(client.done.done() for client in crowd) >= 400 - CONNECTIONS - SPARE, 20)
    cpu_s = await _cpu_of_a_second(small)
    served = [client for client in crowd if not client.done.done()]
    print(f"descriptors: {len(served)} served, {cpu_s:.0%} CPU")
    assert CONNECTIONS / 2 < len(served) <= CONNECTIONS
    assert {client.status for client in crowd if client.done.done()} <= {503, 0}
    assert cpu_s < 0.3
    for client in crowd:
        client.close()
    await eventually_served(address)
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, usual)


async def _cpu_of_a_second(process: Process) -> float:
    before = process.cpu_s
    await asyncio.sleep(1)
    return process.cpu_s - before
