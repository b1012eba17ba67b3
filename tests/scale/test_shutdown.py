"""Going away: no stream is left without an ending, no client without a word, and nobody waits long."""

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.feed import feed, question, text
from tests.house import Process, Seen, gateway_process
from tests.load import Client, all_closed, ask, ask_all, at_scale, get, mute, over, post
from tests.scale.edges import NGINX_TCP, edge
from tests.scale.figures import fetch, until

MANY = at_scale(300, 1000)
RETRY = re.compile(rb"retry: (\d+)\nevent: status\ndata: (\{[^\n]*\})\n\n")


def native_post(asked: str) -> bytes:
    """A reader that does not come back by itself."""
    return post("/stream", {"query": asked})


def native_get(asked: str) -> bytes:
    """A browser's viewer."""
    return get(f"/stream?query={quote(asked)}")


def openai_post(asked: str) -> bytes:
    """An OpenAI client."""
    messages = [{"role": "user", "content": asked}]
    return post("/v1/chat/completions", {"model": "m", "stream": True, "messages": messages})


async def reading(process: Process, streams: int) -> None:
    """Wait until so many streams have spoken."""
    first = "gen_ai_client_operation_time_to_first_chunk_seconds_count{provider=openai}"
    await until(("127.0.0.1", process.port), lambda found: found.get(first, 0) >= streams)


def ended(process: Process) -> tuple[float, float]:
    """Wait for the exit without collecting it: the time of it, and the CPU seconds that the process took."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return time.monotonic(), process.cpu_s


async def gone(process: Process) -> tuple[float, float]:
    """The same, while the loop runs on."""
    async with asyncio.timeout(60):
        return await asyncio.to_thread(ended, process)


def farewell_ms(seen: Seen) -> int:
    """When a viewer that was sent away is to come back; it must have been told in the right words."""
    assert not seen.cut
    assert seen.names[-2:] == ["status", "close"]
    assert seen.data("close")[-1]["reason"] == "draining"
    blocks = RETRY.findall(seen.body)
    assert len(blocks) == 1
    assert json.loads(blocks[0][1])["state"] == "draining"
    return int(blocks[0][0])


async def test_it_is_not_ready_at_once_and_opens_nothing_new() -> None:
    """While load balancers are given time to see it, it refuses in words; then nobody listens any more."""
    async with feed() as service:
        with gateway_process(OPENAI_BASE_URL=service.url, GATEWAY_DRAIN__NOTICE_S="1") as process:
            address = ("127.0.0.1", process.port)
            reader = await ask(address, native_post(question(50, 20)))
            await reader.reads(2)
            process.terminate()
            await until_draining(address)
            assert (await fetch(address, "/health/live"))[0] == 200
            refused, told = await ask_all(address, [native_post(question(1)), native_get(question(1))])
            await over([refused, told])
            assert (refused.status, refused.seen().json()["code"]) == (503, "DRAINING")
            assert int(refused.headers["retry-after"]) >= 1
            assert told.status == 200
            assert told.seen().data("status")[0]["code"] == "DRAINING"
            assert b"retry: " in told.body
            await until_nobody_listens(address)
            assert not reader.done.done()
            await over([reader])
            assert reader.seen().text == text(50)
            assert process.wait() == 0


async def until_draining(address: tuple[str, int]) -> None:
    """Wait for the first 503 of `/health/ready`: the signal has been heard."""
    async with asyncio.timeout(0.9):
        status, body = 200, b""
        while status == 200:
            status, body = await fetch(address, "/health/ready")
    assert json.loads(body) == {"status": "draining"}


async def until_nobody_listens(address: tuple[str, int]) -> None:
    """Wait for a connect to be refused."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while True:
                (await ask(address, b"")).close()
                await asyncio.sleep(0.02)


async def test_viewers_are_sent_away_and_the_others_served_to_their_end() -> None:
    """Whole answers for those who would not come back; a spread of times for those who do; then it ends, exit 0."""
    async with feed() as service:
        with gateway_process(OPENAI_BASE_URL=service.url, GATEWAY_LOGS__LEVEL="warning") as process:
            address, asked = ("127.0.0.1", process.port), question(50, 25)
            viewers = await ask_all(address, [native_get(asked)] * 20)
            readers = await ask_all(address, [native_post(asked), openai_post(asked)] * 20)
            await reading(process, 60)
            process.terminate()
            await over(viewers, 10)
            left = service.answering
            await over(readers)
            await gone(process)
            assert process.wait() == 0
            assert process.stderr == b""
    assert left > 0
    times = {farewell_ms(viewer.seen()) for viewer in viewers}
    assert len(times) > 5
    assert all(500 <= ms <= 5000 for ms in times)
    for reader in readers[::2]:
        seen = reader.seen()
        assert (seen.text, seen.data("complete")[0]["status"], seen.names[-1]) == (text(50), "completed", "close")
    assert {reader.seen().events[-1].data for reader in readers[1::2]} == {"[DONE]"}


# Two equal signals at the same time are one to the kernel.
@pytest.mark.parametrize(("second", "pause_s"), [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.4)], ids=["at once", "later"])
async def test_told_twice_it_ends_within_a_second(second: signal.Signals, pause_s: float) -> None:
    """Also with clients that take nothing, and when both signals come at the same time."""
    async with feed() as service:
        with gateway_process(OPENAI_BASE_URL=service.url, GATEWAY_DELIVERY__WRITE_DEADLINE_S="60") as process:
            address = ("127.0.0.1", process.port)
            readers = await ask_all(address, [native_post(question(5, hang=True))] * 10)
            asked = native_post(question(500, size=400, hang=True))
            with all_closed([mute(address, asked) for _ in range(10)]):
                await reading(process, 20)
                if not pause_s:  # held, so that it finds both when it goes on
                    os.kill(process.pid, signal.SIGSTOP)
                process.terminate()
                await asyncio.sleep(pause_s)
                told = time.monotonic()
                os.kill(process.pid, second)
                os.kill(process.pid, signal.SIGCONT)
                took = (await gone(process))[0] - told
                assert process.wait() == 0
            assert {reader.seen().data("complete")[0]["finish_reason"] for reader in readers} == {"draining"}
    assert took < 1.0 + 0.5  # the half second is for a busy machine; nothing of ours waits so long


async def test_many_streams_that_outlive_the_limit_are_cancelled_cheaply() -> None:
    """Each ends in the words of its dialect, and all of it takes under 2 s of CPU from the signal to the exit."""
    async with feed() as service:
        with gateway_process(OPENAI_BASE_URL=service.url, GATEWAY_DRAIN__LIMIT_S="1") as process:
            address, asked = ("127.0.0.1", process.port), question(200, 2, hang=True)
            kinds = [native_get(asked), native_post(asked), openai_post(asked)]
            clients = await ask_all(address, [kinds[number % 3] for number in range(MANY)])
            whole = await ask(address, openai_post(asked).replace(b'"stream": true', b'"stream":false'))
            await reading(process, MANY + 1)
            before = process.cpu_s
            process.terminate()
            _, after = await gone(process)
            assert process.wait() == 0
            await over([*clients, whole])
            print(f"drain of {MANY} streams: {after - before:.2f} s CPU")
    assert after - before < 2.0
    assert (whole.status, whole.seen().json()["error"]["code"]) == (503, "DRAINING")
    _all_parted(clients)


def _all_parted(clients: list[Client]) -> None:
    for number, client in enumerate(clients):
        seen = client.seen()
        assert not seen.cut
        if number % 3 == 0:
            farewell_ms(seen)
        elif number % 3 == 1:
            assert seen.data("complete")[0]["finish_reason"] == "draining"
        else:
            assert json.loads(seen.events[-1].data)["error"]["code"] == "DRAINING"


@pytest.mark.parametrize("kind", [NGINX_TCP])
async def test_a_viewer_that_returns_while_nobody_is_there_is_told_to_wait(kind: str, tmp_path: Path) -> None:
    """nginx answers for the gateway: 200 and a time for a browser, 503 for others; a new process is found at once."""
    async with feed() as service:
        with edge(kind, tmp_path, OPENAI_BASE_URL=service.url, GATEWAY_DRAIN__LIMIT_S="0.2") as at:
            viewer = await ask(at.address, native_get(question(5, hang=True)))
            await viewer.reads(2)
            at.gateway.terminate()
            await over([viewer])
            farewell_ms(viewer.seen())
            await gone(at.gateway)
            last = viewer.seen().logged[-1].id
            back = await ask(at.address, get(f"/stream?query={quote(question(5))}", Last_Event_ID=last))
            other = await ask(at.address, native_post(question(5)))
            await over([back, other])
            assert (back.status, back.headers["content-type"]) == (200, "text/event-stream")
            assert json.loads(RETRY.findall(back.body)[0][1])["state"] == "retry"
            assert (other.status, "retry-after" in other.headers) == (503, True)
            with gateway_process(port=at.gateway.port, OPENAI_BASE_URL=service.url):
                again = await ask(at.address, native_get(question(5)))
                await over([again])
                assert again.seen().text == text(5)
