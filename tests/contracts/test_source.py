"""What every Source promises, wherever its events come from."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Event, Text, TextComplete
from gateway.resilience.continuation import Continuation
from gateway.resilience.deadline import Deadline
from gateway.sources.base import Source
from gateway.sources.local import LocalSource
from gateway.sources.markdown import Passage
from gateway.sources.openai import OpenAISource
from gateway.sources.passages import Library
from gateway.telemetry.metrics import Metrics
from gateway.transport.route import route_to
from gateway.turn import Turn
from tests.doubles import END, ScriptedSource, question
from tests.house import eventually
from tests.upstream import Call, Step, Upstream, answer, streamed, upstream

TEXT = "Streams survive Wi-Fi, deploys and providers. " * 20
LIBRARY = Library([Passage("manual.md", "How to dry it", TEXT)])


@asynccontextmanager
async def local() -> AsyncIterator[Source]:
    """The built-in one."""
    yield LocalSource(LIBRARY, first_token_s=0, tokens_per_s=2000)


def openai_source(service: Upstream, *continue_models: str) -> OpenAISource:
    """Towards a scripted upstream."""
    return OpenAISource(
        route_to(service.url),
        Turn(),
        api_key="k",
        connect_s=5,
        models_s=5,
        max_connections=10,
        keepalive_s=5,
        max_event_bytes=1 << 18,
        continue_models=continue_models,
    )


@asynccontextmanager
async def openai() -> AsyncIterator[Source]:
    """A remote one."""
    async with upstream(lambda _: streamed(answer([f"{n} " for n in range(20)]), gap_s=0.002)) as service:
        source = openai_source(service)
        yield source
        await source.close()


@asynccontextmanager
async def deadline() -> AsyncIterator[Source]:
    """A source around a source."""
    async with local() as source:
        yield Deadline(source, first_token_s=5, silence_s=5, total_s=5)


@asynccontextmanager
async def continuation() -> AsyncIterator[Source]:
    """A source that goes on when it breaks off, which it does after ten words."""
    whole = answer([f"{n} " for n in range(20)])
    cut = [*streamed(whole[:11], gap_s=0.002)[:-1], "fin"]

    def script(call: Call) -> list[Step]:
        again = call.body["messages"][-1]["role"] == "assistant"
        return streamed([whole[0], *whole[11:]], gap_s=0.002) if again else cut

    async with upstream(script) as service:
        source = openai_source(service, "m")
        yield Continuation(source, continue_max=1, total_s=5, metrics=Metrics())
        await source.close()


@asynccontextmanager
async def scripted() -> AsyncIterator[Source]:
    """The double keeps the promises too, else it proves nothing."""
    yield ScriptedSource([Text("a")], 0.05, [Text("b"), END])


Made = Callable[[], AbstractAsyncContextManager[Source]]
SOURCES: dict[str, Made] = {
    "local": local,
    "openai": openai,
    "deadline": deadline,
    "continuation": continuation,
    "scripted": scripted,
}


@pytest.fixture(params=SOURCES)
async def source(request: pytest.FixtureRequest) -> AsyncIterator[Source]:
    """A source of one kind."""
    async with SOURCES[request.param]() as made:
        yield made


async def batches(source: Source, skip: int = 0) -> list[list[Event]]:
    """All of them."""
    poured: list[list[Event]] = []
    await source.pour(question("drying"), poured.append, skip)
    return poured


async def test_an_answer_ends_with_its_marker_and_nothing_behind_it(source: Source) -> None:
    """Exactly one, the last event, with the usage."""
    events = [event for batch in await batches(source) for event in batch]
    assert [type(event) for event in events].count(TextComplete) == 1
    assert isinstance(events[-1], TextComplete)
    assert events[-1].usage is not None
    assert any(isinstance(event, Text) for event in events)


async def test_no_batch_is_empty_and_no_terminal_event_is_made(source: Source) -> None:
    """The ending of the stream is the pipeline's word."""
    for batch in await batches(source):
        assert batch
        assert not any(event.is_terminal for event in batch)


async def test_the_same_source_serves_many_streams_at_once(source: Source) -> None:
    """None hears anything of another."""
    answers = await asyncio.gather(*[batches(source) for _ in range(5)])
    texts = {"".join(e.token for batch in answer for e in batch if isinstance(e, Text)) for answer in answers}
    assert len(texts) == 1


async def test_a_cancelled_source_pours_nothing_more(source: Source) -> None:
    """In the middle of an answer, at once; cancellation is never swallowed or translated."""
    poured: list[list[Event]] = []
    begun = asyncio.Event()

    def outlet(batch: list[Event]) -> None:
        poured.append(batch)
        begun.set()

    task = asyncio.create_task(source.pour(question("drying"), outlet))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = len(poured)
    await asyncio.sleep(0.01)
    assert len(poured) == count
    assert await batches(source)


async def test_what_the_outlet_raises_ends_it(source: Source) -> None:
    """As it is, at once: the outlet has its reasons."""
    poured = 0

    def full(batch: list[Event]) -> None:
        nonlocal poured
        poured += 1
        raise GatewayError(Code.OUTPUT_LIMIT)

    with pytest.raises(GatewayError) as raised:
        await source.pour(question("drying"), full)
    assert (raised.value.code, poured) == (Code.OUTPUT_LIMIT, 1)


async def test_an_exact_source_says_the_same_again_whatever_was_said_before(source: Source) -> None:
    """So that another process can go on, and its stages stand where they stood; one that is not refuses to pretend."""
    events = [event for batch in await batches(source) for event in batch]
    if source.exact:
        for skip in (1, 5, len(events) - 1, len(events)):
            assert [event for batch in await batches(source, skip) for event in batch] == events
    elif not isinstance(source, ScriptedSource):
        with pytest.raises(ValueError, match="exact"):
            await batches(source, 3)


async def test_an_exact_source_needs_no_text_to_go_on_behind(source: Source) -> None:
    """There is one way for each kind of source, so that nobody has to choose."""
    assert not (source.exact and source.continues(question()))


async def test_it_has_a_name_and_can_be_checked(source: Source) -> None:
    """The name is a label of metrics."""
    assert source.name.isidentifier()
    await source.check()


async def test_closing_a_remote_answer_closes_its_connection() -> None:
    """The upstream stops paying for tokens that nobody reads."""
    async with upstream(lambda _: streamed(answer(["x"] * 1000), gap_s=0.01)) as service:
        source = openai_source(service)
        poured: list[list[Event]] = []
        task = asyncio.create_task(source.pour(question(), poured.append))
        await eventually(lambda: bool(poured))
        task.cancel()
        await service.calls[0].wait_closed(1.0)
        await source.close()


async def test_a_remote_source_that_is_away_fails_its_check() -> None:
    """With a code, not with a traceback."""
    async with upstream() as service:
        source = openai_source(service)
    with pytest.raises(GatewayError) as raised:
        await source.check()
    assert raised.value.code is Code.UPSTREAM_UNAVAILABLE
    await source.close()
