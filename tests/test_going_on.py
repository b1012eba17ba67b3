"""Pipelines that go on with a stream another process began: exactly, or behind a text."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.events import Completed, Event, Failed, Metadata, Opened, Refusal, Status, Text, Warned
from gateway.pipeline import NO_VOICE, Pipeline, Rest
from gateway.request import StreamRequest, Voice
from gateway.sources.base import Outlet
from gateway.stages.base import Chain, Stage
from gateway.stages.batched import Batched
from gateway.streams.lineage import EXACT, FIRST_EPOCH, Lineage
from gateway.streams.stream import Stream
from tests.doubles import ALICE, DONE, END, ManualLoop, RecordingMetrics, ScriptedFollower, ScriptedSource, question


class Exact(ScriptedSource):
    """Says the same every time; remembers what it was to skip."""

    exact = True
    skipped: int | None = None

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        self.skipped = skip
        await super().pour(request, outlet, skip)


class Continuing(ScriptedSource):
    """Goes on behind a text; remembers what it was asked."""

    asked: StreamRequest | None = None

    def continues(self, request: StreamRequest) -> bool:
        return True

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        self.asked = request
        await super().pour(request, outlet, skip)


class Odd(Stage):
    """A stage that drops some text, says other text twice and changes the rest."""

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        made: list[Event] = []
        for event in events:
            if not isinstance(event, Text):
                made.append(event)
            elif event == "twice":
                made += [event, event]
            elif event != "never":
                made.append(Text(event.upper()))
        return made


def taken_over(*events: Event, lineage: Lineage = EXACT, **asked: Any) -> Stream:
    """A stream as it is when its next producer begins: these events of its source are there."""
    stream = Stream("0" * 22, question(**asked), ALICE, lineage=lineage.succeeded(len(events) + 1))
    stream.aside(Opened("m"))
    stream.append(events)
    stream.aside(Status("continued"))
    return stream


def run(stream: Stream, source: ScriptedSource, *stages: Stage, **how: Any) -> Stream:
    """To its end."""
    loop = ManualLoop()
    try:
        loop.run(Pipeline(source, stages, metrics=RecordingMetrics(), **how).run(stream))
    finally:
        loop.close()
    assert stream.ended
    return stream


SAID = st.lists(st.sampled_from(["twice", "never", "a", "b"]), max_size=12)


@given(SAID, st.data())
def test_an_exact_answer_is_the_same_whatever_the_stages_do(words: list[str], data: st.DataObject) -> None:
    """Wherever it broke off, within what one event became too: each event once, in order."""
    script = [Metadata({"model": "m"}), *map(Text, words), END]
    whole = Odd().feed(script)
    durable = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(1, 4))
    batches = [script[at : at + cut] for at in range(0, len(script), cut)]
    stream, source = taken_over(*whole[:durable]), Exact(*batches)
    run(stream, source, Odd())
    assert [event for event in stream.events() if not isinstance(event, (Opened, Status, Completed))] == whole
    assert source.skipped == durable
    assert isinstance(stream.terminal, Completed)


PROSE = st.lists(st.sampled_from(["One. ", "two", " three", "\n", ".", " ", "x" * 130]), max_size=20)


@given(PROSE, st.data())
def test_an_exact_answer_in_batches_is_the_same_wherever_it_broke_off(words: list[str], data: st.DataObject) -> None:
    """Its text is held and cut anew, and each piece stands in the log once."""
    script = [Metadata({"model": "m"}), *map(Text, words), END]
    whole = [*Batched().feed(script)]
    durable = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.integers(1, 4))
    batches = [script[at : at + cut] for at in range(0, len(script), cut)]
    stream = taken_over(*whole[:durable])
    run(stream, Exact(*batches), Batched())
    assert [event for event in stream.events() if not isinstance(event, (Opened, Status, Completed))] == whole


def test_an_answer_in_batches_goes_on_behind_what_was_said() -> None:
    """What the stage would hold of the last piece stands in the log already."""
    stream = taken_over(Text("One. "), Text("two thr"), lineage=FIRST_EPOCH)
    run(stream, Continuing([Text("ee. "), Text("Four"), END]), Batched())
    assert [event for event in stream.events() if isinstance(event, Text)] == ["One. ", "two thr", "ee. ", "Four"]


@pytest.mark.parametrize("said", [0, 1, 2])
def test_last_words_are_not_said_twice(said: int) -> None:
    """Also where an answer that is said again fails before it is where it was."""
    whole = [Text("One. "), Text("Two")]
    stream = taken_over(*whole[:said])
    run(stream, Exact([Text("One. Two")], GatewayError(Code.UPSTREAM_ERROR)), Batched())
    assert isinstance(stream.terminal, Failed)
    assert [event for event in stream.events() if isinstance(event, Text)] == whole


@pytest.mark.parametrize("lost", [True, False])
def test_a_source_that_says_other_words_than_it_did_is_not_gone_on_with(lost: bool) -> None:
    """Two halves of two answers are no answer: PRODUCER_LOST, and nothing of the other is appended."""
    stream = taken_over(Text("a"), Text("b"))
    run(stream, Exact([Text("a"), Text("x"), Text("c"), END] if lost else [Text("a"), Text("b"), Text("c"), END]))
    if lost:
        assert isinstance(stream.terminal, Failed)
        assert stream.terminal.code == "PRODUCER_LOST"
    assert stream.text() == ("ab" if lost else "abc")


def test_what_is_said_again_is_not_said_before_all_of_it_has_been_heard() -> None:
    """Batch by batch, whatever their size."""
    stream = taken_over(Text("a"), Text("b"), Text("c"))
    rest = Rest(Chain([]), stream)
    assert [list(rest.feed(batch)) for batch in ([Text("a")], [Text("b"), Text("c"), Text("d")], [Text("e")])] == [
        [],
        [Text("d")],
        [Text("e")],
    ]


def test_a_source_that_is_not_exact_goes_on_behind_the_text() -> None:
    """It is given what was said, and only what comes behind is appended."""
    stream, source = taken_over(Text("one two "), lineage=FIRST_EPOCH), Continuing([Text("three"), END])
    run(stream, source)
    assert stream.text() == "one two three"
    assert source.asked is not None
    assert source.asked.messages[-1]["content"] == "one two "
    assert isinstance(stream.terminal, Completed)


def test_what_nobody_has_heard_is_asked_anew() -> None:
    """With the request as it was."""
    stream, source = taken_over(lineage=FIRST_EPOCH), Continuing([Text("one"), END])
    run(stream, source)
    assert stream.text() == "one"
    assert source.asked == stream.request


def test_a_text_that_is_whole_needs_no_source() -> None:
    """Only the end was still to be said."""
    stream, source = taken_over(Text("a"), END), Exact([Text("a"), END])
    run(stream, source)
    assert source.calls == 0
    assert isinstance(stream.terminal, Completed)
    assert (stream.terminal.finish_reason, stream.terminal.usage) == ("stop", END.usage)


def test_that_there_is_no_voice_is_said_once() -> None:
    """Not again by the next process."""
    stream = Stream("0" * 22, question(voice=Voice()), ALICE, lineage=EXACT.succeeded(2))
    for event in (Opened("m"), NO_VOICE, Status("continued")):
        stream.aside(event)
    run(stream, Exact([Text("a"), END]))
    assert [event for event in stream.events() if isinstance(event, Warned)] == [NO_VOICE]


@pytest.mark.parametrize(("epoch", "longest_ms"), [(1, 5000), (2, 100_000)])
def test_an_answer_of_several_processes_took_as_long_as_all_of_them(epoch: int, longest_ms: int) -> None:
    """From when it was opened, by the clock on the wall: a process knows no other clock of another one."""
    lineage = FIRST_EPOCH if epoch == 1 else FIRST_EPOCH.succeeded(1)
    stream = Stream("0" * 22, question(), ALICE, lineage=lineage)
    stream.created_s -= 90
    run(stream, ScriptedSource([Text("a"), END]))
    assert isinstance(stream.terminal, Completed)
    assert longest_ms - 20_000 < stream.terminal.duration_ms < longest_ms


# Whether it can.


@pytest.mark.parametrize(
    ("source", "lineage", "said", "can"),
    [
        (Exact, EXACT, [Text("a")], True),
        (Exact, EXACT, [], True),
        (ScriptedSource, EXACT, [Text("a")], False),
        (ScriptedSource, EXACT, [], False),
        (Exact, FIRST_EPOCH, [Text("a")], False),
        (ScriptedSource, FIRST_EPOCH, [Text("a")], False),
        (ScriptedSource, FIRST_EPOCH, [Metadata({})], True),
        (Continuing, FIRST_EPOCH, [Text("a")], True),
        (Continuing, FIRST_EPOCH, [Text("a"), Refusal("no")], False),
        (ScriptedSource, FIRST_EPOCH, [Text("a"), END], True),
    ],
)
def test_a_stream_can_go_on_where_nothing_is_said_twice_or_changed(
    source: type[ScriptedSource], lineage: Lineage, said: list[Event], can: bool
) -> None:
    """The table of who can go on with what."""
    pipeline = Pipeline(source(), metrics=RecordingMetrics())
    assert pipeline.can_go_on(taken_over(*said, lineage=lineage)) is can


def test_a_source_with_followers_is_not_exact() -> None:
    """What they say stands between its words, and depends on the time."""

    async def nothing(stream: Stream) -> None:
        """Says nothing."""

    pipeline = Pipeline(Exact(), (), [ScriptedFollower(nothing)], metrics=RecordingMetrics())
    assert not pipeline.exact
    assert not pipeline.can_go_on(taken_over(Text("a")))


def test_what_has_ended_stays_as_it_is() -> None:
    """No second end."""
    stream = taken_over(Text("a"), END)
    stream.finish(DONE)
    head = stream.head
    stream.finish(DONE)
    assert stream.head == head
