"""The hub ends: cancel, drain, and one account for each stream."""

import asyncio

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Completed, Failed, Text
from gateway.pipeline import Pipeline
from gateway.request import OnDisconnect
from gateway.streams.stream import State
from tests.bench import WHOLE, Bench, ending, over
from tests.doubles import ALICE, BOB, END, ScriptedSource, Step, question
from tests.house import eventually


@pytest.mark.parametrize("turns", [0, 1, 5], ids=["before its first step", "in its first step", "later"])
async def test_cancel_is_idempotent_and_leaves_one_ending(bench: Bench, turns: int) -> None:
    """Whenever it comes, twice or after the end: one terminal event, one account, a closed source."""
    stream = (await bench.open(on_disconnect=OnDisconnect.CANCEL)).stream
    for _ in range(turns):
        await asyncio.sleep(0)
    for _ in range(3):
        assert await bench.hub.cancel(stream.sid, ALICE) is stream
    await over(stream)
    await eventually(lambda: not bench.hub.running)
    await bench.hub.cancel(stream.sid, ALICE)
    assert ending(stream) == ("cancelled", "cancelled")
    assert sum(isinstance(event, (Completed, Failed)) for event in stream.events()) == 1
    assert [account.outcome for account in bench.accounts] == ["caller_cancel"]
    assert bench.sources[0].closed == bench.sources[0].calls
    assert len(bench.metrics.of("cancel_lag")) == 1


async def test_a_task_that_was_cancelled_from_outside_before_its_first_step_ends_its_stream(bench: Bench) -> None:
    """As when the loop itself is closed: a task that never began cannot say its last word."""
    stream = (await bench.open()).stream
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == f"stream {stream.sid}"]
    task.cancel()
    await over(stream)
    assert ending(stream) == ("cancelled", "cancelled")


async def test_a_key_is_free_again_when_its_stream_was_cancelled_before_its_first_step(bench: Bench) -> None:
    """It brought nothing either."""
    first = (await bench.open(key="k")).stream
    await bench.hub.cancel(first.sid, ALICE)
    await over(first)
    await eventually(lambda: not bench.hub.running)
    await asyncio.sleep(0)
    assert (await bench.open(*WHOLE, key="k")).fresh


async def test_a_stranger_cannot_cancel(bench: Bench) -> None:
    """Nor learn that there is something to cancel."""
    stream = (await bench.open()).stream
    with pytest.raises(GatewayError) as raised:
        await bench.hub.cancel(stream.sid, BOB)
    assert raised.value.code is Code.STREAM_NOT_FOUND
    assert not stream.sealed


async def test_drain_lets_streams_end_and_cancels_those_that_do_not(bench: Bench) -> None:
    """New ones are refused meanwhile, those that have a key are still found."""
    go = asyncio.Event()
    good = (await bench.open([Text("a")], go, [END], key="k")).stream
    bad = (await bench.open()).stream
    drain = asyncio.create_task(bench.hub.drain(0.1))
    await asyncio.sleep(0.01)
    with pytest.raises(GatewayError) as raised:
        await bench.open()
    assert raised.value.code is Code.DRAINING
    assert (await bench.open(key="k")).stream is good
    go.set()
    await drain
    assert good.state is State.COMPLETED
    assert ending(bad) == ("cancelled", "draining")
    assert bench.metrics.of("drain_remaining")[-1] == (0,)


async def test_drain_of_an_idle_house_takes_no_time(bench: Bench) -> None:
    """However long it would wait."""
    async with asyncio.timeout(0.5):
        await bench.hub.drain(30)


@pytest.mark.parametrize(
    ("script", "outcome", "error"),
    [
        (WHOLE, "ok", ""),
        (([Text("a"), Text("b"), END],), "ok", ""),
        (([END],), "ok", ""),
        (([Text("a")],), "provider_truncated", "UPSTREAM_TRUNCATED"),
        ((), "provider_truncated", "UPSTREAM_TRUNCATED"),
        ((GatewayError(Code.UPSTREAM_TIMEOUT),), "provider_timeout_first", "UPSTREAM_TIMEOUT"),
        (([Text("a")], GatewayError(Code.UPSTREAM_TIMEOUT)), "provider_timeout_idle", "UPSTREAM_TIMEOUT"),
        (([Text("a")], GatewayError(Code.OUTPUT_LIMIT)), "policy_limit", "OUTPUT_LIMIT"),
        ((GatewayError(Code.UPSTREAM_RATE_LIMITED),), "provider_error", "UPSTREAM_RATE_LIMITED"),
        ((KeyError("x"),), "gateway_error", "INTERNAL"),
        (([Text("a")], GatewayError(Code.STORE_FULL)), "gateway_error", "STORE_FULL"),
    ],
)
async def test_every_ending_has_one_account_that_names_it(script: tuple[Step, ...], outcome: str, error: str) -> None:
    """One outcome of a closed set, one usage record; a stream without content says so."""
    bench = Bench()
    source = ScriptedSource(*script)
    opening = await bench.hub.open(question(), ALICE, Pipeline(source, metrics=bench.metrics), dialect="openai")
    await over(opening.stream)
    await eventually(lambda: not bench.hub.running)
    (account,) = bench.accounts
    assert (account.dialect, account.provider, account.outcome, account.error) == ("openai", "scripted", outcome, error)
    assert account.reported == (END in opening.stream.events())
    assert bench.metrics.of("no_first_token") == ([] if opening.stream.content_events else [(outcome,)])
    assert 0 <= account.seconds < 5
    for _, _, seconds in bench.metrics.of("output"):
        assert 0 <= seconds <= account.seconds


async def test_late_events_are_counted(bench: Bench) -> None:
    """A source that goes on talking after its stream was cancelled is heard by nobody but the metrics."""
    stream = (await bench.open()).stream
    await eventually(lambda: stream.content_events)
    await bench.hub.cancel(stream.sid, ALICE)
    stream.append([Text("late"), Text("later")])
    await over(stream)
    await eventually(lambda: not bench.hub.running)
    assert bench.metrics.of("late_events") == [(2,)]
