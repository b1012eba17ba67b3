"""Continuation: an answer that breaks off goes on where it can, as often as it may, in the time of one answer."""

import asyncio
from collections.abc import Iterator

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import (
    Citation,
    Event,
    Metadata,
    Reasoning,
    Refusal,
    Status,
    Text,
    TextComplete,
    ToolCall,
    Usage,
    WholeText,
)
from gateway.request import StreamRequest
from gateway.resilience.continuation import BROKEN_OFF, Continuation, go_on, open_to_more
from gateway.resilience.deadline import Deadline
from gateway.sources.base import Outlet
from tests.doubles import END, HANG, ManualLoop, RecordingMetrics, ScriptedSource, Step, question

CUT = GatewayError(Code.UPSTREAM_TRUNCATED)
CONTINUED = Status("continued", "the provider broke off; the answer goes on")


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    """Time jumps instead of passing."""
    loop = ManualLoop()
    yield loop
    loop.close()


class Parts:
    """Plays one script for each time that it is asked, and remembers what was asked."""

    name = "scripted"
    exact = False

    def __init__(self, *scripts: list[Step], able: bool = True) -> None:
        self.sources = [ScriptedSource(*script) for script in scripts]
        self.asked: list[StreamRequest] = []
        self.able = able

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """The next script."""
        self.asked.append(request)
        await self.sources[len(self.asked) - 1].pour(request, outlet, skip)

    def continues(self, request: StreamRequest) -> bool:
        """As it was made."""
        return self.able

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to let go of."""


class Listener:
    """Hears an answer to its end."""

    def __init__(self, parts: Parts, *, continue_max: int = 1, total_s: float = 900.0) -> None:
        self.parts = parts
        self.metrics = RecordingMetrics()
        timed = Deadline(parts, first_token_s=60, silence_s=30, total_s=total_s)
        self.source = Continuation(timed, continue_max=continue_max, total_s=total_s, metrics=self.metrics)
        self.heard: list[Event] = []
        self.code: Code | None = None

    async def listen(self) -> "Listener":
        """To the end, good or bad."""
        try:
            await self.source.pour(question(), self.heard.extend)
        except GatewayError as error:
            self.code = error.code
        return self

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(event for event in self.heard if isinstance(event, Text))

    @property
    def results(self) -> list[str]:
        """What was counted."""
        return [result for (result,) in self.metrics.of("continuation")]


@pytest.mark.parametrize("code", sorted(BROKEN_OFF, key=str), ids=str)
def test_an_answer_that_breaks_off_goes_on_behind_its_text(loop: ManualLoop, code: Code) -> None:
    """The source is asked the same with the text so far; whoever listens is told, and hears one answer."""
    listener = Listener(Parts([[Text("Once "), Text("upon")], GatewayError(code)], [[Text(" a time")], [END]]))
    loop.run(listener.listen())
    usage = Usage(END.usage.prompt_tokens + 0, END.usage.completion_tokens + 2, reported=False) if END.usage else None
    assert listener.heard == [Text("Once "), Text("upon"), CONTINUED, Text(" a time"), TextComplete("stop", usage)]
    assert listener.parts.asked == [question(), question().continued("Once upon")]
    assert (listener.code, listener.results) == (None, ["continued"])


@pytest.mark.parametrize(
    ("first", "error"),
    [
        ([], CUT),
        ([Metadata({"model": "m"})], CUT),
        ([Text("Once"), END], CUT),
        ([Text("Once")], GatewayError(Code.OUTPUT_LIMIT)),
        ([Text("Once")], GatewayError(Code.UPSTREAM_AUTH)),
        ([Text("Once")], GatewayError(Code.UPSTREAM_REJECTED)),
        ([Text("Once")], GatewayError(Code.UPSTREAM_RATE_LIMITED)),
    ],
    ids=["nothing said", "no content", "whole", "too long", "no access", "rejected", "rate limited"],
)
def test_what_did_not_break_off_in_the_middle_does_not_go_on(
    loop: ManualLoop, first: list[Event], error: GatewayError
) -> None:
    """The error is passed on as it is, and not counted here."""
    script: list[Step] = [first, error] if first else [error]
    listener = loop.run(Listener(Parts(script)).listen())
    assert (listener.heard, listener.code, listener.results) == (first, error.code, [])


@pytest.mark.parametrize(
    "said",
    [
        [Text("Once"), ToolCall(0, "{")],
        [ToolCall(0, "{}"), Text("Once")],
        [ToolCall(0, "{}"), Citation({}), Text("Once")],
        [Text("Once"), Refusal("I")],
        [Reasoning("hm")],
        [Text("Once"), Reasoning("hm")],
    ],
    ids=[
        "a tool call",
        "text behind a tool call",
        "more behind a tool call",
        "a refusal",
        "only reasoning",
        "reasoning behind text",
    ],
)
def test_what_text_cannot_go_on_with_is_not_gone_on_with(loop: ManualLoop, said: list[Event]) -> None:
    """The honest error, and counted as refused."""
    listener = loop.run(Listener(Parts([said, CUT])).listen())
    assert (listener.heard, listener.code, listener.results) == (said, Code.UPSTREAM_TRUNCATED, ["refused"])


def test_reasoning_and_citations_that_are_done_are_no_obstacle(loop: ManualLoop) -> None:
    """Text came behind them."""
    said: list[Event] = [Reasoning("hm"), Text("Once"), Citation({})]
    listener = loop.run(Listener(Parts([said, CUT], [[Text(" upon"), END]])).listen())
    assert (listener.text, listener.code, listener.results) == ("Once upon", None, ["continued"])


def test_text_that_replaces_what_was_said_is_what_it_goes_on_behind(loop: ManualLoop) -> None:
    """As clients show it."""
    listener = Listener(Parts([[Text("Twice"), WholeText("Once")], CUT], [[Text(" upon"), END]]))
    loop.run(listener.listen())
    assert listener.parts.asked[1] == question().continued("Once")
    assert open_to_more([WholeText("Once")])
    assert not open_to_more([WholeText("")])


def test_a_source_that_does_not_continue_is_poured_as_it_is(loop: ManualLoop) -> None:
    """Nothing stands between it and the outlet."""
    outlets: list[Outlet] = []

    class Plain(Parts):
        async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
            outlets.append(outlet)
            raise CUT

    def outlet(batch: list[Event]) -> None:
        raise AssertionError

    source = Continuation(Plain(able=False), continue_max=1, total_s=9, metrics=RecordingMetrics())
    with pytest.raises(GatewayError):
        loop.run(source.pour(question(), outlet))
    assert outlets == [outlet]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_it_goes_on_as_often_as_it_may(loop: ManualLoop, times: int) -> None:
    """Each part behind all that was said; then the last error ends it, and nobody is called again."""
    scripts: list[list[Step]] = [[[Text(f"part{number} ")], CUT] for number in range(times + 1)]
    listener = loop.run(Listener(Parts(*scripts), continue_max=times).listen())
    assert listener.text == "".join(f"part{number} " for number in range(times + 1))
    assert (listener.code, listener.results) == (Code.UPSTREAM_TRUNCATED, ["failed"] * times)
    texts = ["".join(f"part{number} " for number in range(part)) for part in range(1, times + 1)]
    assert listener.parts.asked[1:] == [question().continued(text) for text in texts]


def test_a_part_that_says_nothing_may_be_tried_again(loop: ManualLoop) -> None:
    """If there is a try left."""
    refused: list[Step] = [GatewayError(Code.UPSTREAM_UNAVAILABLE)]
    listener = loop.run(Listener(Parts([[Text("a")], CUT], refused, [[Text("b"), END]]), continue_max=2).listen())
    assert (listener.text, listener.code, listener.results) == ("ab", None, ["failed", "continued"])


def test_what_waits_at_the_seam_is_not_lost_when_the_next_part_breaks_off_too(loop: ManualLoop) -> None:
    """It is text, and is said before the error."""
    text = "The quick brown fox jumps"
    listener = loop.run(Listener(Parts([[Text(text)], CUT], [[Text("The quick")], CUT])).listen())
    assert (listener.text, listener.code) == (text + "The quick", Code.UPSTREAM_TRUNCATED)


def test_silence_breaks_an_answer_off(loop: ManualLoop) -> None:
    """The next part has its own time to begin, and its own silence."""
    parts = Parts([[Text("a")], HANG], [59.0, [Text("b")], 29.0, [Text("c")], [END]])
    listener = loop.run(Listener(parts).listen())
    assert (listener.text, listener.code, listener.results) == ("abc", None, ["continued"])
    assert parts.sources[0].closed == 1


@pytest.mark.parametrize("second", [HANG, 25.0], ids=["silent", "lively"])
def test_the_total_time_is_for_all_parts_together(loop: ManualLoop, second: float) -> None:
    """Whether it is over in the first part or in a later one; then nobody is called again."""
    lively: list[Step] = [step for _ in range(99) for step in (20.0, [Text("b")])]
    listener = loop.run(Listener(Parts([[Text("a")], 10.0, CUT], [second, *lively]), total_s=50.0).listen())
    assert (listener.code, listener.results, loop.time()) == (Code.UPSTREAM_TIMEOUT, ["failed"], 1050.0)
    listener = loop.run(Listener(Parts(lively), total_s=50.0).listen())
    assert (listener.code, listener.results, loop.time()) == (Code.UPSTREAM_TIMEOUT, [], 1100.0)


def test_a_cancelled_continuation_says_nothing_more(loop: ManualLoop) -> None:
    """Not even what waits at its seam; and its source is let go of."""
    parts = Parts([[Text("The quick brown fox")], CUT], [[Text("The qu")], HANG])
    listener = Listener(parts)

    async def cancel() -> None:
        task = asyncio.create_task(listener.listen())
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run(cancel())
    assert (listener.text, parts.sources[1].closed, listener.results) == ("The quick brown fox", 1, [])


def test_somebody_else_can_go_on_behind_the_text_of_a_lost_process(loop: ManualLoop) -> None:
    """With the words that the caller began with; repetitions are dropped, and the usage is honest."""
    messages = ({"role": "user", "content": "Tell me."}, {"role": "assistant", "content": "Once upon a "})
    parts = Parts([[Text("Once upon a time there was")], [Text(" a fox")], [TextComplete("stop", Usage(9, 4))]])
    heard: list[Event] = []
    loop.run(go_on(parts, question(messages=messages), "time there ", heard.extend))
    assert heard == [Text("was"), Text(" a fox"), TextComplete("stop", Usage(9 + 5, 4 + 2, reported=False))]
    assert parts.asked[0].messages[1:] == ({"role": "assistant", "content": "Once upon a time there "},)


def test_it_is_its_source_in_everything_else(loop: ManualLoop) -> None:
    """Name, exactness, health and closing."""
    source = Listener(Parts()).source
    assert (source.name, source.exact, source.continues(question())) == ("scripted", False, True)
    loop.run(source.check())
    loop.run(source.close())
