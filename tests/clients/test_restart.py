"""Real clients while the gateway is replaced behind the shipped nginx: nobody is turned away for good."""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import aiohttp
import openai
import pytest

from tests.clients.heard import Heard
from tests.clients.listeners import ASKED, QUESTION
from tests.clients.node import Browser
from tests.house import Process, eventually, free_port
from tests.nginx import MISSING, Nginx
from tests.upstream import Call, Step, answer, chunked, streamed, upstream

pytestmark = pytest.mark.skipif(MISSING, reason="nginx or openssl is not installed")

TOKENS = [f"word {number} " for number in range(8)]
AWAY_S = 2.0
DRAIN = {"GATEWAY_DELIVERY__AWAY_RETRY_MIN_MS": "100", "GATEWAY_DELIVERY__AWAY_RETRY_MAX_MS": "300"}
WITHOUT_END: list[Step] = ["headers", *(chunked(event) for event in answer(TOKENS)[:4]), "hang"]


def shipped(folder: Path, ports: Iterable[int]) -> Nginx:
    """The shipped nginx, but impatient: it asks viewers to come back ten times as soon."""
    edge = Nginx(folder, [f"127.0.0.1:{port}" for port in ports])
    path = edge.directory / "conf.d" / "gateway.conf"
    text, found = re.subn(r"20% (\d+)00;|\* (\d+)00;", lambda m: m[0].replace("00;", "0;"), path.read_text())
    assert found == 5, "the jitter of nginx/gateway.conf does not look as expected"
    path.write_text(text)
    return edge


@contextlib.asynccontextmanager
async def process(port: int, upstream_url: str, **environment: str) -> AsyncIterator[Process]:
    """A gateway process that is ready, while this loop goes on."""
    gateway = Process(port=port, OPENAI_BASE_URL=upstream_url, **DRAIN, **environment)
    try:
        yield await asyncio.to_thread(gateway.wait_ready)
    finally:
        await asyncio.to_thread(gateway.close)


def gone(heard: Heard) -> bool:
    """Whether the browser has given up."""
    return any(line["readyState"] == 2 for line in heard.saw("lost", "open"))


@pytest.fixture
def browsers(chromium: Browser, firefox: Browser) -> list[Browser]:
    """Both, at once."""
    return [chromium, firefox]


async def test_no_browser_gives_up_while_the_gateway_is_away(browsers: list[Browser], tmp_path: Path) -> None:
    """SIGTERM in mid-answer: told to come back, viewers do so through 2 s of absence; newcomers then have it all."""
    port = free_port()
    async with contextlib.AsyncExitStack() as house:
        first = await house.enter_async_context(upstream(WITHOUT_END))
        second = await house.enter_async_context(upstream(streamed(answer(TOKENS))))
        edge = house.enter_context(shipped(tmp_path, [port]))
        async with process(port, first.url, GATEWAY_DRAIN__LIMIT_S="0.2") as old:
            await asyncio.gather(*(browser.ask("goto", url=f"{edge.tls_url}/") for browser in browsers))
            watched = [await browser.watch("/stream?query=hi", ("complete", "error")) for browser in browsers]
            await eventually(lambda: all(heard.names.count("text") == 3 for heard in watched))
            old.terminate()
            await eventually(lambda: all("close" in heard.names for heard in watched))
            assert await asyncio.to_thread(old.wait) == 0
        left = time.monotonic()
        newcomers = [await browser.watch("/stream?query=hi", ("complete", "error")) for browser in browsers]
        await asyncio.sleep(left + AWAY_S - time.monotonic())
        for heard in watched:
            told = next(data for data in heard.data("status") if data["state"] == "draining")
            assert 100 <= told["retry"] <= 300
        for heard in [*watched, *newcomers]:
            assert not gone(heard)
            assert heard.opens >= 2
            assert {"state": "retry", "code": "UPSTREAM_AWAY"}.items() <= heard.data("status")[-1].items()
        async with process(port, second.url):
            await eventually(lambda: all(heard.ended for heard in newcomers), 10)
        assert [heard.text for heard in newcomers] == ["".join(TOKENS)] * 2
        assert not any(gone(heard) for heard in newcomers)
        assert len(second.calls) == 2
        assert {asked["protocol"] for asked in edge.requests()} == {"HTTP/2.0"}


async def test_a_viewer_may_stay_where_no_other_process_has_its_log(chromium: Browser, tmp_path: Path) -> None:
    """With `drain.send_viewers_away` off, an answer that ends within the drain limit reaches its viewer."""
    port = free_port()
    slowly = streamed(answer(TOKENS), 0.15)
    async with contextlib.AsyncExitStack() as house:
        service = await house.enter_async_context(upstream(slowly))
        edge = house.enter_context(shipped(tmp_path, [port]))
        async with process(port, service.url, GATEWAY_DRAIN__SEND_VIEWERS_AWAY="false") as old:
            await chromium.ask("goto", url=f"{edge.tls_url}/")
            heard = await chromium.watch("/stream?query=hi", ("complete", "error"))
            await eventually(lambda: "text" in heard.names)
            old.terminate()
            assert await asyncio.to_thread(old.wait) == 0
        async with process(port, service.url):
            await eventually(lambda: heard.ended, 10)
    assert heard.text == "".join(TOKENS)


async def test_a_rolling_restart_refuses_no_request(tmp_path: Path) -> None:
    """One of two processes drains while it still answers: nginx brings it nothing new, not even on idle connections."""
    ports = [free_port(), free_port()]
    async with contextlib.AsyncExitStack() as house:
        endless = await house.enter_async_context(upstream(WITHOUT_END))
        service = await house.enter_async_context(upstream(streamed(answer(TOKENS))))
        edge = house.enter_context(shipped(tmp_path, ports))
        drains = await house.enter_async_context(process(ports[0], endless.url, GATEWAY_DRAIN__LIMIT_S="5"))
        await house.enter_async_context(process(ports[1], service.url))
        web = await house.enter_async_context(aiohttp.ClientSession())
        reading = await house.enter_async_context(web.post(f"{drains.base}/stream", json=QUESTION))
        await asyncio.gather(*(_page(web, edge.url) for _ in range(20)))
        drains.terminate()
        await eventually(lambda: not _listening(drains.port))
        async with openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key="not-needed", max_retries=0) as client:
            for _ in range(12):
                stream = await client.chat.completions.create(**ASKED)
                assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
        assert not reading.content.at_eof()
        drains.terminate()
    assert len(service.calls) == 12


async def test_eight_tabs_of_a_browser_are_served_at_once(browsers: list[Browser], tmp_path: Path) -> None:
    """Over HTTP/2, as shipped; with HTTP/1.1 a browser opens six connections and the seventh tab hangs."""
    tabs = 8
    all_here = asyncio.Event()

    async def when_all_are_here(_call: Call) -> list[Step]:
        if len(service.calls) == tabs * len(browsers):
            all_here.set()
        await all_here.wait()
        return streamed(answer(TOKENS))

    async with contextlib.AsyncExitStack() as house:
        service = await house.enter_async_context(upstream(when_all_are_here))
        port = free_port()
        edge = house.enter_context(shipped(tmp_path, [port]))
        await house.enter_async_context(process(port, service.url))
        heard = []
        for browser in browsers:
            await browser.ask("goto", url=f"{edge.tls_url}/")
            heard += [await browser.watch("/stream?query=hi", ("complete", "error")) for _ in range(tabs)]
        await eventually(lambda: all(one.ended for one in heard), 10)
    assert [one.text for one in heard] == ["".join(TOKENS)] * len(heard)


async def _page(web: aiohttp.ClientSession, base: str) -> None:
    async with web.get(f"{base}/health/live") as response:
        assert response.status == 200
        await response.read()


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
