"""The hub opens: a stream belongs to it from then on, and one question is one generation."""

import asyncio
import contextlib

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Opened, Text
from gateway.hub import Opening
from tests.bench import ENDLESS, WHOLE, Bench, over
from tests.doubles import ALICE, END, HANG, Step
from tests.house import eventually


async def test_a_stream_is_opened_before_its_source_is_called(bench: Bench) -> None:
    """So that its client has an id to come back with; then it runs to its end without any reader."""
    stream, fresh, _permit = await bench.open(*WHOLE)
    assert fresh
    assert stream.events() == [Opened("m")]
    assert bench.sources[0].calls == 0
    await over(stream)
    assert stream.text() == "ab"
    assert await bench.hub.find(stream.sid, ALICE) is stream


async def test_fifty_racing_opens_with_one_key_make_one_stream(bench: Bench) -> None:
    """One is fresh, all have the same stream, and one source is called."""
    openings = await asyncio.gather(*[bench.open(*WHOLE, key="k") for _ in range(50)])
    assert sum(opening.fresh for opening in openings) == 1
    assert len({opening.stream.sid for opening in openings}) == 1
    await over(openings[0].stream)
    assert sum(source.calls for source in bench.sources) == 1
    again = await bench.open(*WHOLE, key="k")
    assert again == Opening(openings[0].stream, fresh=False)


async def test_a_key_with_another_question_is_refused(bench: Bench) -> None:
    """Neither the old answer nor a new one."""
    await bench.open(*WHOLE, key="k")
    with pytest.raises(GatewayError) as raised:
        await bench.open(*WHOLE, key="k", text="something else")
    assert raised.value.code is Code.IDEMPOTENCY_MISMATCH


@pytest.mark.parametrize(
    "script",
    [(GatewayError(Code.UPSTREAM_UNAVAILABLE),), (), (RuntimeError("x"),)],
    ids=["upstream", "cancelled", "bug"],
)
async def test_a_key_is_free_again_when_its_stream_brought_nothing(bench: Bench, script: tuple[Step, ...]) -> None:
    """The same request may be tried again."""
    first = (await bench.open(*(script or (HANG,)), key="k")).stream
    await asyncio.sleep(0)
    if not script:
        await bench.hub.cancel(first.sid, ALICE)
    await over(first)
    await eventually(lambda: not bench.hub.running)
    second = await bench.open(*WHOLE, key="k")
    assert second.fresh


@pytest.mark.parametrize("script", [(*ENDLESS[:1], GatewayError(Code.UPSTREAM_ERROR)), WHOLE, ([END],)])
async def test_a_key_stays_when_its_stream_brought_something(bench: Bench, script: tuple[Step, ...]) -> None:
    """Half an answer was paid for too, and an empty one that is whole is an answer."""
    first = (await bench.open(*script, key="k")).stream
    await over(first)
    assert await bench.open(*WHOLE, key="k") == Opening(first, fresh=False)


async def test_a_refused_key_is_free_again() -> None:
    """Refused because the house was full; asked again when it is not, the question is answered."""
    bench = Bench(max_streams=1)
    first = await bench.open()
    with pytest.raises(GatewayError) as raised:
        await bench.open(key="k")
    assert raised.value.code is Code.OVERLOADED
    assert raised.value.retry_after_s
    await bench.hub.cancel(first.stream.sid, ALICE)
    await eventually(lambda: not bench.hub.running)
    assert (await bench.open(*WHOLE, key="k")).fresh
    await bench.hub.drain(1)


async def test_a_question_too_large_for_the_store_leaves_nothing_behind() -> None:
    """Whether it is refused or fails: no stream that never ends, and no key that is never free."""
    bench = Bench(max_bytes=2000)
    for _ in range(2):
        with contextlib.suppress(GatewayError):
            await over((await bench.open(key="k", metadata={"echo": "x" * 10_000})).stream)
        await eventually(lambda: not bench.hub.running)
    assert bench.store.bytes_kept == 0
    assert (await bench.open(*WHOLE, key="k")).fresh
    await bench.hub.drain(1)


async def test_a_full_store_refuses_and_frees_the_key() -> None:
    """STORE_FULL, and no stream is left half open."""
    bench = Bench(max_bytes=4000)
    big = (await bench.open([Text("x" * 2800)], HANG)).stream
    await eventually(lambda: big.content_events)
    for _ in range(2):
        with pytest.raises(GatewayError) as raised:
            await bench.open(key="k")
        assert raised.value.code is Code.STORE_FULL
    assert bench.hub.running == 1
    await bench.hub.drain(0)
    assert (len(bench.accounts), len(bench.metrics.of("stream_opened"))) == (1, 1)
