"""The pipeline: whatever happens, the last event of its stream is a terminal one, and there is only one."""

import asyncio
import gc
from collections.abc import Callable, Sequence

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Completed, Event, Failed, Metadata, Status, Suggestions, Text, TextComplete, Usage, Warned
from gateway.pipeline import Pipeline, usage_of
from gateway.request import Caps, StreamRequest, Voice
from gateway.resilience.continuation import Continuation
from gateway.resilience.deadline import Deadline
from gateway.sources.base import Outlet, Source
from gateway.stages.base import Stage
from gateway.stages.truncate import Truncate
from gateway.streams.ids import new_sid
from gateway.streams.lineage import EXACT
from gateway.streams.stream import State, Stream
from tests.doubles import (
    ALICE,
    END,
    HANG,
    ManualLoop,
    RecordingMetrics,
    ScriptedFollower,
    ScriptedSource,
    Step,
    question,
    stream_of,
    uncapped,
)
from tests.house import eventually
from tests.shared_store import continued

WHOLE: tuple[Step, ...] = ([Text("a")], [Text("b"), END])


async def run(*script: Step, followers: Sequence[ScriptedFollower] = (), limit_s: float = 30.0) -> Stream:
    """A stream that a pipeline has filled."""
    stream, source = stream_of(), ScriptedSource(*script)
    await Pipeline(source, (), followers, follower_limit_s=limit_s, metrics=RecordingMetrics()).run(stream)
    assert source.closed == source.calls == 1
    return stream


def terminal(stream: Stream) -> Completed | Failed:
    """The one terminal event, which is the last."""
    ends = [event for event in stream.events() if event.is_terminal]
    assert len(ends) == 1
    assert stream.events()[-1] is ends[0] is stream.terminal
    assert isinstance(ends[0], (Completed, Failed))
    return ends[0]


async def test_a_whole_answer_completes() -> None:
    """With the source's reason and usage, the number of pieces and the time it took."""
    end = terminal(await run(*WHOLE))
    assert isinstance(end, Completed)
    assert (end.status, end.finish_reason, end.usage, end.total) == ("completed", "stop", END.usage, 2)
    assert 0 <= end.duration_ms < 2000


@pytest.mark.parametrize("script", [(), ([Text("a")],), ([Text("a")], 0.0)])
async def test_a_source_without_its_marker_was_cut_off(script: tuple[Step, ...]) -> None:
    """Never an invented success."""
    end = terminal(await run(*script))
    assert isinstance(end, Failed)
    assert (end.code, end.retryable, end.status) == ("UPSTREAM_TRUNCATED", True, 502)


async def test_what_comes_behind_the_marker_is_not_heard() -> None:
    """The text has ended; the source is closed."""
    stream = await run(*WHOLE, [Text("more")])
    assert stream.text() == "ab"


@pytest.mark.parametrize("before", [(), ([Text("a")],)], ids=["before content", "after content"])
@pytest.mark.parametrize(
    ("error", "code", "status", "retry_after_s"),
    [
        (GatewayError(Code.UPSTREAM_RATE_LIMITED, retry_after_s=7), "UPSTREAM_RATE_LIMITED", 429, 7),
        (GatewayError(Code.UPSTREAM_ERROR, status=529), "UPSTREAM_ERROR", 529, None),
        (ZeroDivisionError("secret"), "INTERNAL", 500, None),
        (TimeoutError("secret"), "INTERNAL", 500, None),
    ],
)
async def test_every_failure_is_one_terminal_error(
    before: tuple[Step, ...], error: Exception, code: str, status: int, retry_after_s: float | None
) -> None:
    """A code of the closed set, and nothing of a bug's own words."""
    end = terminal(await run(*before, error))
    assert isinstance(end, Failed)
    assert (end.code, end.status, end.retry_after_s) == (code, status, retry_after_s)
    assert "secret" not in end.message
    assert end.timestamp_ms > 1_600_000_000_000


@pytest.mark.parametrize("script", [(HANG,), ([Text("a")], HANG)])
async def test_a_cancelled_stream_completes_as_cancelled(script: tuple[Step, ...]) -> None:
    """With the reason that sealed it; the source is closed before the terminal event, late events are dropped."""
    stream, source = stream_of(), ScriptedSource(*script)
    task = asyncio.create_task(Pipeline(source, metrics=RecordingMetrics()).run(stream))
    await asyncio.sleep(0)
    stream.seal("orphaned")
    stream.append([Text("late")])
    task.cancel()
    await task
    end = terminal(stream)
    assert isinstance(end, Completed)
    assert (end.status, end.finish_reason) == ("cancelled", "orphaned")
    assert source.closed == 1
    assert stream.late_events == 1


async def test_a_stage_can_change_drop_and_fail() -> None:
    """Stages work in order, in line; what they raise ends the stream as their error."""

    class Shout(Stage):
        def feed(self, events: Sequence[Event]) -> Sequence[Event]:
            return [Text(event.token.upper()) if isinstance(event, Text) else event for event in events]

    class Drop(Stage):
        def feed(self, events: Sequence[Event]) -> Sequence[Event]:
            return [event for event in events if event != Text("A")]

    stream = stream_of()
    await Pipeline(ScriptedSource(*WHOLE), [Shout(), Drop()], metrics=RecordingMetrics()).run(stream)
    assert stream.text() == "B"
    failed = stream_of()
    await Pipeline(ScriptedSource(*WHOLE), [uncapped(1)], metrics=RecordingMetrics()).run(failed)
    assert terminal(failed) == failed.terminal
    assert isinstance(failed.terminal, Failed)
    assert failed.terminal.code == "OUTPUT_LIMIT"
    assert failed.text() == "a"


async def test_the_first_content_and_the_gaps_behind_it_are_measured() -> None:
    """Also where everything comes in one piece."""
    for script, gaps in ((WHOLE, 1), (([Text("a"), Text("b"), END],), 0), (([END],), None)):
        metrics = RecordingMetrics()
        pipeline = Pipeline(ScriptedSource(*script), metrics=metrics)
        await pipeline.run(stream_of())
        assert len(metrics.of("first_chunk")) == (0 if gaps is None else 1)
        assert len(metrics.of("chunk")) == (gaps or 0)
        assert (pipeline.first_content_at > 0) == (gaps is not None)


@pytest.mark.parametrize("followed", [False, True])
async def test_an_upstream_that_fails_while_it_is_closed_changes_nothing(followed: bool) -> None:
    """The answer is whole, whether it has been said to be already or not."""

    async def follow(stream: Stream) -> None:
        await asyncio.sleep(0)

    class Slamming(ScriptedSource):
        async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
            outlet([Text("a"), END])
            raise GatewayError(Code.UPSTREAM_ERROR)

    stream = stream_of()
    followers = [ScriptedFollower(follow)] if followed else []
    await Pipeline(Slamming(), (), followers, metrics=RecordingMetrics()).run(stream)
    assert isinstance(terminal(stream), Completed)
    assert stream.late_events == 0


# Followers.


async def test_what_a_follower_makes_comes_before_the_end() -> None:
    """It reads the whole text first, and the stream waits for it."""

    async def suggest(stream: Stream) -> None:
        await eventually(lambda: stream.text_ended)
        stream.append([Suggestions((stream.text(),))])

    stream = await run(*WHOLE, followers=[ScriptedFollower(suggest)])
    assert stream.events()[-2:] == [Suggestions(("ab",)), terminal(stream)]


async def test_a_follower_that_fails_is_a_warning_and_not_the_end() -> None:
    """The answer is whole all the same."""

    async def fail(stream: Stream) -> None:
        raise RuntimeError("secret")

    stream = await run(*WHOLE, followers=[ScriptedFollower(fail, "voice")])
    (warning,) = [event for event in stream.events() if isinstance(event, Warned)]
    assert (warning.code, warning.details) == ("FOLLOWER_FAILED", {"follower": "voice"})
    assert "secret" not in warning.message
    assert isinstance(terminal(stream), Completed)


async def test_a_follower_that_finds_the_store_full_harms_nobody() -> None:
    """There may be no room even for the warning; the end of the stream is said all the same."""
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    full = False

    async def speak(stream: Stream) -> None:
        nonlocal full
        await eventually(lambda: stream.text_ended)
        full = True
        stream.append([Suggestions(())])

    stream = stream_of()
    stream.on_growth = lambda _: not full
    await Pipeline(ScriptedSource(*WHOLE), (), [ScriptedFollower(speak)], metrics=RecordingMetrics()).run(stream)
    assert isinstance(terminal(stream), Completed)
    gc.collect()
    assert not errors


def test_a_follower_that_takes_too_long_is_left_behind() -> None:
    """At its limit, counted from the end of the text; what it appends later is dropped."""
    loop = ManualLoop()
    cancelled: list[float] = []

    async def linger(stream: Stream) -> None:
        try:
            await asyncio.sleep(HANG)
        finally:
            cancelled.append(loop.time())
            stream.append([Suggestions(("late",))])

    async def work() -> Stream:
        stream = await run(100.0, *WHOLE, followers=[ScriptedFollower(linger)], limit_s=5.0)
        await asyncio.sleep(0)
        return stream

    begin = loop.time()
    stream = loop.run(work())
    loop.close()
    assert cancelled == [pytest.approx(begin + 105, abs=0.1)]
    assert isinstance(terminal(stream), Completed)
    assert stream.late_events == 1


@pytest.mark.parametrize("error", [GatewayError(Code.UPSTREAM_ERROR), asyncio.CancelledError()])
async def test_followers_end_with_a_stream_that_fails(error: BaseException) -> None:
    """Nobody goes on reading aloud what was cut off."""
    ended = asyncio.Event()

    async def follow(stream: Stream) -> None:
        try:
            await asyncio.sleep(HANG)
        finally:
            ended.set()

    stream = await run([Text("a")], 0.0, error, followers=[ScriptedFollower(follow)])
    async with asyncio.timeout(1):
        await ended.wait()
    terminal(stream)


async def test_a_wish_for_a_voice_that_is_not_there_is_answered() -> None:
    """The text comes, and a warning says that it comes alone."""
    stream = stream_of(voice=Voice())
    await Pipeline(ScriptedSource(*WHOLE), metrics=RecordingMetrics()).run(stream)
    assert [event.code for event in stream.events() if isinstance(event, Warned)] == ["VOICE_UNAVAILABLE"]
    assert stream.text() == "ab"


def test_usage_is_estimated_where_nobody_reported_it() -> None:
    """About four characters a token, and said to be a guess."""
    stream = stream_of(Text("x" * 40), messages=({"role": "user", "content": "y" * 80}, {"role": "user"}))
    assert usage_of(stream) == Usage(20, 10, reported=False)
    stream.append([END])
    assert usage_of(stream) == END.usage


async def test_the_source_is_closed_before_the_followers_have_their_time() -> None:
    """The upstream's slot is not held by what only reads along."""
    closed_when_followed: list[bool] = []

    class Speaker:
        name = "speaker"

        async def follow(self, stream: Stream) -> None:
            await eventually(lambda: stream.text_ended and source.closed == 1, 1)
            closed_when_followed.append(not stream.ended)

    source = ScriptedSource([Text("a")], [END])
    stream = stream_of()
    await Pipeline(source, followers=[Speaker()], metrics=RecordingMetrics()).run(stream)
    assert closed_when_followed == [True]
    assert stream.state is State.COMPLETED


async def test_an_exact_source_says_nothing_twice_of_which_only_metadata_was_heard() -> None:
    """Its process died before the first word: what goes on begins with that word, not with the metadata again."""

    class ExactSource(ScriptedSource):
        exact = True

    script = [Metadata({"model": "m"}), Text("a"), Text("b"), END]
    stream = Stream(new_sid(), question(), ALICE, lineage=EXACT)
    stream.append(script[:1])
    heir = continued(stream)
    await Pipeline(ExactSource(script), metrics=RecordingMetrics()).run(heir)
    assert [type(event) for event in heir.events()] == [Metadata, Status, Text, Text, TextComplete, Completed]


# Answers that are cut.

SENTENCES = [
    Text(token)
    for token in ["One", "two", "three.", "Four", "five", "six.", "Seven", "eight", "nine.", "Ten", "eleven"]
]
LONG: tuple[Step, ...] = tuple([Text(f"{token} ")] for token in SENTENCES)


def cutting(source: Source, words: int = 10) -> Pipeline:
    """A pipeline whose answers have at most so many words."""
    stage = Truncate(Caps(words=words), max_bytes=10_000, asked_tokens=lambda: 1)
    return Pipeline(source, [stage], metrics=RecordingMetrics())


def around(source: Source) -> Source:
    """A source as it is in service, with sources around it."""
    timed = Deadline(source, first_token_s=5, silence_s=5, total_s=5)
    return Continuation(timed, continue_max=1, total_s=5, metrics=RecordingMetrics())


@pytest.mark.parametrize("wrap", [lambda source: source, around], ids=["bare", "around"])
async def test_a_source_whose_answer_was_cut_is_closed_at_once(wrap: Callable[[Source], Source]) -> None:
    """It would have gone on for ever; nothing has failed."""
    stream, source = stream_of(), ScriptedSource(*LONG, HANG)
    async with asyncio.timeout(1):
        await cutting(wrap(source)).run(stream)
    assert source.closed == source.calls == 1
    assert stream.text() == "One two three. Four five six. Seven eight nine."
    end = terminal(stream)
    assert isinstance(end, Completed)
    assert (end.status, end.finish_reason, end.usage) == ("completed", "length", Usage(1, 11, reported=False))
    assert [event.code for event in stream.events() if isinstance(event, Warned)] == ["TRUNCATED"]
    assert stream.late_events == 0


async def test_text_that_is_held_is_said_when_its_source_fails() -> None:
    """What was made is not lost, though its sentence never ended."""
    stream = stream_of()
    await cutting(ScriptedSource(*LONG[:9], [Text("Ten ")], GatewayError(Code.UPSTREAM_ERROR))).run(stream)
    assert stream.text() == "One two three. Four five six. Seven eight nine. Ten "
    assert isinstance(terminal(stream), Failed)


@pytest.mark.parametrize("upto", range(1, 12))
async def test_an_exact_source_is_cut_at_the_same_place_again(upto: int) -> None:
    """Wherever another process goes on with it, and however its events come the second time."""

    class ExactSource(ScriptedSource):
        exact = True

    events = [event for batch in LONG for event in batch]  # type: ignore[union-attr]  # batches, all of them
    whole = Stream(new_sid(), question(), ALICE, lineage=EXACT)
    await cutting(ExactSource(*LONG, HANG)).run(whole)
    stream = Stream(new_sid(), question(), ALICE, lineage=EXACT)
    stream.append([event for event in whole.events() if isinstance(event, Text)][:upto])
    heir = continued(stream)
    async with asyncio.timeout(1):
        await cutting(ExactSource(events[:5], events[5:], HANG)).run(heir)
    assert heir.text() == whole.text()
    assert [type(event) for event in heir.events()][-3:] == [Warned, TextComplete, Completed]
