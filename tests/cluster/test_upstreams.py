"""An upstream that cannot say the same again: others go on behind what was said, or end it honestly, and control it."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
import pytest_asyncio

from fleet.checker import check
from fleet.readers import History
from tests.cluster.play import STREAMS, moved_at, play
from tests.cluster.stage import TOKENS_PER_S, Stage, stage
from tests.house import Seen, see
from tests.journeys.asking import choices, openai_text
from tests.load import FULL, at_scale
from tests.upstream import Call, Step, Upstream, answer, streamed, upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOES_ON, STOPS = "goes-on", "stops"
LENGTH_S = at_scale(3, 30)
WORDS = LENGTH_S * TOKENS_PER_S
SETTINGS = {
    "GATEWAY_OPENAI__CONTINUE_MODELS": GOES_ON,
    "GATEWAY_OPENAI__MODEL": GOES_ON,
    "GATEWAY_OPENAI__KEEPALIVE_S": "1",
}
CALLS = itertools.count()


def words(call: Call) -> list[Step]:
    """As many words as an answer has, no two calls saying the same; behind a beginning, as many as it lacks."""
    said = call.body["messages"][-1]
    there = len(said["content"].split()) if said["role"] == "assistant" else 0
    number = next(CALLS)
    return streamed(answer([f"{number}x{word} " for word in range(there, WORDS)]), gap_s=1 / TOKENS_PER_S)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service() -> AsyncIterator[Upstream]:
    """A model."""
    async with upstream(words) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, service: Upstream) -> AsyncIterator[Stage]:
    """Two processes that ask it."""
    async with stage(
        tmp_path_factory.mktemp("upstreams"), settings={"OPENAI_BASE_URL": service.url, **SETTINGS}
    ) as here:
        yield here


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: Stage) -> Stage:
    """Each journey begins with all processes serving."""
    await shared.cluster.supervisor.until_ready()
    return shared


@pytest_asyncio.fixture(loop_scope="module")
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


def text_of(history: History) -> str:
    """The text as a client keeps it."""
    text = ""
    for seen in history.events:
        text = seen.text if seen.data.get("replace") else text + seen.text
    return text


def rewinds_of(history: History) -> int:
    """How often the client was told that what it had seen is not what was said."""
    return sum(seen.name == "warning" and seen.data["code"] in ("GAP", "RESET", "REWIND") for seen in history.events)


async def test_what_a_model_goes_on_with_is_what_readers_end_with(house: Stage) -> None:
    """kill -9: other words than the dead process heard, but every reader ends with those of the log, unmixed."""
    async with play(house, STREAMS) as on:
        await on.opened()
        house.signal(0, signal.SIGKILL)
        histories, logs = await on.ended()
    moved = [one for one in histories if moved_at(one)]
    if FULL:
        silence_s = sorted(check(one, "").silence_s for one in moved)
        print(f"\nprefix: {len(moved)} moved, {sum(map(rewinds_of, histories))} rewinds, silence {silence_s[-1]:.2f} s")
    assert len(moved) >= len(histories) // 4
    for history, log in zip(histories, logs, strict=True):
        assert history.finished, history.gave_up
        assert text_of(history) == text_of(log)
        assert len(text_of(log).split()) == WORDS
        assert history.events[-1].data.get("code") is None
        assert {call.status for call in history.calls} <= {0, 200}
        assert len({word.partition("x")[0] for word in text_of(log).split()}) == 1 + bool(moved_at(history))


async def test_an_answer_that_nobody_can_go_on_with_ends_honestly(house: Stage, web: aiohttp.ClientSession) -> None:
    """`PRODUCER_LOST`, retryable, behind the text so far, for those who come back and for those who come later."""
    sid, begun = await _begin(house, web, STOPS)
    house.signal(0, signal.SIGKILL)
    place = {"Last-Event-ID": begun.logged[-1].id}
    back = await see(web, "GET", f"{house.url(1)}/stream/{sid}", headers=place)
    later = await see(web, "GET", f"{house.url(1)}/stream/{sid}")
    for seen in (back, later):
        (error,) = seen.data("error")
        assert (error["code"], error["retryable"]) == ("PRODUCER_LOST", True)
    if back.data("warning"):
        assert begun.text.startswith(later.text)
        assert later.text == back.text
    else:
        assert later.text == begun.text + back.text
    assert len(later.text.split()) >= 5


@pytest.mark.parametrize("model", [STOPS, GOES_ON])
async def test_an_openai_client_hears_an_error_and_never_a_stop(
    house: Stage, web: aiohttp.ClientSession, model: str
) -> None:
    """Whom the same key has brought to another process: the answer goes on there, or ends without [DONE]."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    key = {"Idempotency-Key": f"openai-{model}"}
    path = "/v1/chat/completions"
    first = asyncio.create_task(see(web, "POST", house.url(0) + path, json=body, headers=key))
    await asyncio.sleep(0.3)
    second = asyncio.create_task(see(web, "POST", house.url(1) + path, json=body, headers=key))
    await asyncio.sleep(0.5)
    house.signal(0, signal.SIGKILL)
    cut, seen = await first, await second
    assert cut.cut
    assert cut.headers["X-Stream-Id"] == seen.headers["X-Stream-Id"]
    text = openai_text(seen)
    assert len(text.split()) >= 5
    if model == GOES_ON:
        assert seen.events[-1].data == "[DONE]"
        assert len(text.split()) == WORDS
        return
    error = orjson.loads(seen.events[-1].data)["error"]
    assert error["code"] == "PRODUCER_LOST"
    assert not any(choice.get("finish_reason") for choice in choices(seen))


async def test_any_process_lists_attaches_to_and_cancels_what_another_one_makes(
    house: Stage, web: aiohttp.ClientSession, service: Upstream
) -> None:
    """The same key asks nobody twice; all readers see the end, and the model's connection is closed within a second."""
    question = {"query": "cancel me", "user_id": "ann"}
    key, ann = {"Idempotency-Key": "across"}, {"X-User-Id": "ann"}
    calls = len(service.calls)
    first = asyncio.create_task(see(web, "POST", f"{house.url(0)}/stream", json=question, headers=key))
    sid = await _listed(house, web, ann)
    again = asyncio.create_task(see(web, "POST", f"{house.url(1)}/stream", json=question, headers=key))
    third = asyncio.create_task(see(web, "GET", f"{house.url(1)}/stream/{sid}", headers=ann))
    foreign = await see(web, "DELETE", f"{house.url(1)}/stream/{sid}", headers={"X-User-Id": "bob"})
    assert foreign.status == 404
    await asyncio.sleep(0.5)
    loop = asyncio.get_running_loop()
    began = loop.time()
    cancelled = await see(web, "DELETE", f"{house.url(1)}/stream/{sid}", headers=ann)
    assert cancelled.status == 200
    assert len(service.calls) == calls + 1
    await service.calls[-1].wait_closed()
    assert loop.time() - began < 1.0
    for seen in await asyncio.gather(first, again, third):
        assert seen.headers["X-Stream-Id"] == sid
        assert seen.data("complete")[0]["status"] == "cancelled"
        assert seen.text == first.result().text


@pytest.mark.parametrize("flushed", [False, True])
async def test_an_answer_that_nobody_reads_goes_on_elsewhere(
    house: Stage, web: aiohttp.ClientSession, flushed: bool
) -> None:
    """Detached, and its process is killed: another one completes it, also where Redis was emptied before."""
    question = {"query": "take your time", "user_id": f"bob{flushed}"}
    bob = {"X-User-Id": question["user_id"]}
    accepted = await see(web, "POST", f"{house.url(0)}/stream?detach", json=question)
    assert accepted.status == 202
    sid = accepted.json()["stream_id"]
    await asyncio.sleep(0.6)
    if flushed:
        with house.redis() as client:
            client.flushall()
        await asyncio.sleep(1.2)
    house.signal(0, signal.SIGKILL)

    async def completed() -> bool:
        async with web.get(f"{house.url(1)}/streams", headers=bob) as response:
            listed = (await response.json())["streams"]
        return [one["state"] for one in listed] == ["completed"]

    async with asyncio.timeout(LENGTH_S + 10):
        while not await completed():  # noqa: ASYNC110  # another process is waited for
            await asyncio.sleep(0.1)
    seen = await see(web, "GET", f"{house.url(1)}{accepted.headers['Location']}", headers=bob)
    assert seen.data("complete")[0]["status"] == "completed"
    assert len(seen.text.split()) == WORDS
    assert sid in seen.logged[0].id


async def test_a_key_is_held_where_redis_was_emptied(
    house: Stage, web: aiohttp.ClientSession, service: Upstream
) -> None:
    """Who asks again under it, at another process, is brought to the answer that is being made."""
    key = {"Idempotency-Key": "flushed"}
    calls = len(service.calls)
    first = asyncio.create_task(see(web, "POST", f"{house.url(0)}/stream", json={"query": "hi"}, headers=key))
    await asyncio.sleep(0.4)
    with house.redis() as client:
        client.flushall()
    await asyncio.sleep(1.0)
    again = await see(web, "POST", f"{house.url(1)}/stream", json={"query": "hi"}, headers=key)
    assert again.headers["X-Stream-Id"] == (await first).headers["X-Stream-Id"]
    assert again.text == first.result().text
    assert len(service.calls) == calls + 1


async def _begin(house: Stage, web: aiohttp.ClientSession, model: str) -> tuple[str, Seen]:
    """A stream of the first process, and what a client saw that was cut off after some words."""
    seen = await see(web, "POST", f"{house.url(0)}/stream", json={"query": "hi", "model": model}, upto=20)
    return seen.headers["X-Stream-Id"], seen


async def _listed(house: Stage, web: aiohttp.ClientSession, who: dict[str, str]) -> str:
    """The one stream of this caller, as the other process lists it."""
    async with asyncio.timeout(5):
        while True:
            async with web.get(f"{house.url(1)}/streams", headers=who) as response:
                found = (await response.json())["streams"]
            if found:
                (one,) = found
                assert one["state"] in ("open", "live")
                return str(one["stream_id"])
            await asyncio.sleep(0.05)
