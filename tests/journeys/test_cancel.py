"""Leaving: a client that goes away stops what it paid for, within a second, whenever and however it goes."""

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.app.house import Gateway
from tests.house import eventually, free_port, house, see
from tests.journeys.asking import COMPLETION, QUESTION
from tests.journeys.test_upstream_connect import black_hole
from tests.nginx import MISSING, Nginx
from tests.upstream import Call, Step, Upstream, chunk, chunked, upstream

TOKEN = chunk({"content": "Hello"})
PHASES: dict[str, list[Step]] = {
    "before headers": ["hang"],
    "before a token": ["headers", chunked(chunk({"role": "assistant"})), "hang"],
    "in silence": ["headers", chunked(TOKEN), "hang"],
    "in the flow": ["headers", *[chunked(TOKEN), 0.01] * 1000],  # type: ignore[list-item]  # bytes and seconds
}
ASKING: dict[str, tuple[str, dict[str, Any]]] = {
    "native": ("/stream", {**QUESTION, "on_disconnect": "cancel"}),
    "openai": ("/v1/chat/completions", {**COMPLETION, "stream": True}),
    "whole": ("/v1/chat/completions", COMPLETION),
}


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nginx, int]]:
    """An nginx, and the port on which it expects the gateway."""
    if MISSING:
        pytest.skip("nginx or openssl is not installed")
    port = free_port()
    with Nginx(tmp_path_factory.mktemp("nginx"), [f"127.0.0.1:{port}"]) as nginx:
        yield nginx, port


class Client:
    """A client on a bare socket, because how it leaves is the matter here."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def ask(cls, port: int, path: str, body: dict[str, Any]) -> "Client":
        """Connect and send a whole request."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        data = orjson.dumps(body)
        length = f"Content-Length: {len(data)}"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
        client._writer.write(head.encode() + data)
        return client

    async def read_until(self, mark: bytes) -> None:
        """Until something has arrived."""
        async with asyncio.timeout(5):
            await self._reader.readuntil(mark)

    def leave(self, how: str) -> None:
        """`fin`: close. `rst`: reset. `half`: say no more, but listen on."""
        if how == "half":
            self._writer.write_eof()
            return
        if how == "rst":
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort() if how == "rst" else self._writer.close()

    def close(self) -> None:
        """In the end."""
        self._writer.close()


def count(gateway: Gateway, name: str) -> dict[str, float]:
    """A counter's values by its one label, without zeros."""
    samples = [sample for family in gateway.metrics.registry.collect() for sample in family.samples]
    return {next(iter(s.labels.values())): s.value for s in samples if s.name == name and s.value}


async def leave_in_every_phase(gateway: Gateway, service: Upstream, port: int, asking: str, how: str) -> None:
    """One question for each phase; the upstream must see its connection closed within a second of the leaving."""
    path, body = ASKING[asking]
    for turn, phase in enumerate(PHASES, 1):
        client = await Client.ask(port, path, {**body, "model": phase})
        await eventually(lambda: len(service.calls) == turn)  # noqa: B023  # used before the next turn
        if phase.startswith("in ") and asking != "whole":
            await client.read_until(b"Hello")
        left = time.monotonic()
        client.leave(how)
        assert await service.calls[-1].wait_closed() - left < 1, phase
        await eventually(lambda: gateway.hub.running == 0)
        client.close()
        assert count(gateway, "ssegw_stream_outcomes_total") == {"caller_disconnect": turn}, phase
        assert count(gateway, "ssegw_usage_records_total") == {"estimated": turn}, phase
        assert not any(count(gateway, "ssegw_readers_active").values())


def play(call: Call) -> list[Step]:
    """The phase that the model names."""
    return PHASES[call.body["model"]]


@pytest.mark.parametrize("how", ["fin", "rst", "half"])
@pytest.mark.parametrize("asking", ASKING)
async def test_leaving_stops_the_upstream(asking: str, how: str) -> None:
    """Direct; with exactly one outcome and one record of usage for each stream."""
    async with upstream(play) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        port = int(gateway.urls[0].rsplit(":", 1)[1])
        await leave_in_every_phase(gateway, service, port, asking, how)


@pytest.mark.parametrize("how", ["fin", "rst", "half"])
@pytest.mark.parametrize("asking", ASKING)
async def test_leaving_stops_the_upstream_through_nginx(edge: tuple[Nginx, int], asking: str, how: str) -> None:
    """The same behind the shipped configuration."""
    nginx, port = edge
    async with upstream(play) as service, house(OPENAI_BASE_URL=service.url, GATEWAY_SERVER__PORT=str(port)) as gateway:
        await leave_in_every_phase(gateway, service, nginx.port, asking, how)


async def test_leaving_stops_the_attempt_to_connect() -> None:
    """The upstream has not even taken the connection: nothing waits for it when nobody waits for us."""
    with black_hole() as hole:
        async with house(OPENAI_BASE_URL=f"http://127.0.0.1:{hole}/v1") as gateway:
            client = await Client.ask(int(gateway.urls[0].rsplit(":", 1)[1]), *ASKING["native"])
            await client.read_until(b"opened")
            client.leave("fin")
            await eventually(lambda: gateway.hub.running == 0, 1)
            assert count(gateway, "ssegw_stream_outcomes_total") == {"caller_disconnect": 1}


@pytest.mark.parametrize("phase", PHASES)
async def test_delete_stops_the_upstream_and_ends_the_stream_for_its_readers(phase: str) -> None:
    """As cancelled, once, and a second DELETE changes nothing."""
    async with (
        upstream(play) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        async with session.post("/stream", json={**QUESTION, "model": phase}) as response:
            await eventually(lambda: len(service.calls) == 1)
            for state in ("cancelling", "cancelled"):
                asked = time.monotonic()
                async with session.delete(response.headers["Location"]) as answer:
                    assert (answer.status, (await answer.json())["state"]) == (200, state)
                assert await service.calls[0].wait_closed() - asked < 1
                await eventually(lambda: gateway.hub.running == 0)
            told = await response.text()
        again = await see(session, "GET", response.headers["Location"])
    assert told.count("event: complete") == again.names.count("complete") == 1
    assert again.data("complete")[0]["status"] == "cancelled"
    assert "event: error" not in told
    assert count(gateway, "ssegw_stream_outcomes_total") == {"caller_cancel": 1}
    assert count(gateway, "ssegw_usage_records_total") == {"estimated": 1}


async def test_only_the_last_reader_takes_the_stream_with_it() -> None:
    """Two tabs on one stream: the first one closed costs the second nothing."""
    async with (
        upstream(play) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        body = {**QUESTION, "model": "in the flow", "on_disconnect": "cancel"}
        first = await session.post("/stream", json=body)
        second = await session.get(first.headers["Location"])
        first.close()
        await eventually(lambda: count(gateway, "ssegw_readers_left_total"))
        for _ in range(20):
            await second.content.readline()
        assert service.calls[0].closed is None
        left = time.monotonic()
        second.close()
        assert await service.calls[0].wait_closed() - left < 1


@pytest.mark.parametrize("phase", PHASES)
async def test_the_last_words_of_an_openai_stream_that_was_cancelled_are_an_error(phase: str) -> None:
    """Somebody else cancelled it: neither `stop` nor [DONE], and a real status where nothing had been said."""
    async with (
        upstream(play) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        body = {**COMPLETION, "model": phase, "stream": True}
        reading = asyncio.create_task(see(session, "POST", "/v1/chat/completions", json=body))
        await eventually(lambda: len(service.calls) == 1)
        if phase.startswith("in "):
            await eventually(lambda: count(gateway, "ssegw_readers_active").get("openai"))
        (sid,) = gateway.hub._running
        async with session.delete(f"/stream/{sid}") as answer:
            assert answer.status == 200
        seen = await reading
    error = orjson.loads(seen.events[-1].data)["error"] if seen.events else seen.json()["error"]
    assert error["code"] == "CANCELLED"
    assert seen.status == (200 if seen.events else 409)
    assert seen.body.count(b"[DONE]") == seen.body.count(b'"stop"') == 0
