"""Deadline: a source must begin, go on and end in time, each of the three by itself."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Event, Metadata, Status, Text
from gateway.resilience.deadline import Deadline
from tests.doubles import END, HANG, ManualLoop, ScriptedSource, Step, question

FIRST_S, SILENCE_S, TOTAL_S = 60.0, 30.0, 900.0


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    """Time jumps instead of passing."""
    loop = ManualLoop()
    yield loop
    loop.close()


class Listener:
    """Reads a source through a deadline, and remembers when it ended and how."""

    def __init__(self, loop: ManualLoop, *script: Step, total_s: float = TOTAL_S) -> None:
        self.source = ScriptedSource(*script)
        self.deadline = Deadline(self.source, first_token_s=FIRST_S, silence_s=SILENCE_S, total_s=total_s)
        self.heard: list[Event] = []
        self.seconds = 0.0
        self.error: GatewayError | None = None
        self._loop = loop

    async def listen(self) -> None:
        """To the end."""
        begin = self._loop.time()
        try:
            await self.deadline.pour(question(), self.heard.extend)
        except GatewayError as error:
            self.error = error
        self.seconds = self._loop.time() - begin


def timed_out(listener: Listener) -> str:
    """What did not come in time."""
    assert listener.error is not None
    assert listener.error.code is Code.UPSTREAM_TIMEOUT
    assert listener.source.closed == 1
    return listener.error.message


def pending(loop: ManualLoop) -> int:
    """How many timers are set."""
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # there is no public way to ask
    return sum(not timer.cancelled() for timer in timers)


KEEP_ALIVE: list[Step] = [[Metadata({})], 10.0, [Status("thinking")], 10.0] * 20


@pytest.mark.parametrize("script", [[HANG], KEEP_ALIVE], ids=["silence", "keep-alives, which are not tokens"])
def test_the_first_token_must_come_in_time(loop: ManualLoop, script: list[Step]) -> None:
    """Else a timeout at that time, and the source is closed."""
    listener = Listener(loop, *script)
    loop.run(listener.listen())
    assert timed_out(listener) == "the first token did not come within 60 s"
    assert listener.seconds == pytest.approx(FIRST_S, abs=0.1)


@pytest.mark.parametrize("script", [[HANG], KEEP_ALIVE], ids=["silence", "keep-alives"])
def test_each_next_token_must_come_in_time(loop: ManualLoop, script: list[Step]) -> None:
    """Counted from the last token, not from the last byte."""
    listener = Listener(loop, 50.0, [Text("a")], 25.0, [Text("b")], *script)
    loop.run(listener.listen())
    assert timed_out(listener) == "the next token did not come within 30 s"
    assert listener.seconds == pytest.approx(50 + 25 + SILENCE_S, abs=0.1)
    assert [event for event in listener.heard if isinstance(event, Text)] == [Text("a"), Text("b")]


def test_the_whole_answer_must_end_in_time(loop: ManualLoop) -> None:
    """However lively it is."""
    listener = Listener(loop, *([Text("a")], 1.0) * 2000, total_s=100.0)
    loop.run(listener.listen())
    assert timed_out(listener) == "the answer did not end within 100 s"
    assert listener.seconds == pytest.approx(100, abs=0.1)
    assert 99 <= len(listener.heard) <= 101


def test_a_total_shorter_than_the_first_token_s_time_rules(loop: ManualLoop) -> None:
    """The smallest limit ends it."""
    listener = Listener(loop, HANG, total_s=5.0)
    loop.run(listener.listen())
    assert timed_out(listener) == "the answer did not end within 5 s"


def test_who_is_in_time_is_not_disturbed(loop: ManualLoop) -> None:
    """Just in time each time, and nothing is left behind that could ring later."""
    listener = Listener(loop, FIRST_S - 1, [Text("a")], *(SILENCE_S - 1, [Text("b")]) * 20, [END])
    loop.run(listener.listen())
    assert listener.error is None
    assert listener.heard[-1] == END
    assert listener.source.closed == 1
    loop.advance(10 * TOTAL_S)


@pytest.mark.parametrize("came_s", [0.0, 1.0, FIRST_S - SILENCE_S, FIRST_S - 1])
def test_silence_counts_from_the_first_token(loop: ManualLoop, came_s: float) -> None:
    """Though the time for the first one was longer, and is not over yet."""
    listener = Listener(loop, came_s, [Text("a")], HANG)
    loop.run(listener.listen())
    assert timed_out(listener) == "the next token did not come within 30 s"
    assert listener.seconds == pytest.approx(came_s + SILENCE_S, abs=0.1)


@pytest.mark.parametrize(
    "script",
    [
        [[Text("a")], [END]],
        [[END]],
        [],
        [GatewayError(Code.UPSTREAM_ERROR)],
        [[Text("a")], GatewayError(Code.UPSTREAM_ERROR)],
        [HANG],
        [[Text("a")], HANG],
        [RuntimeError("a bug")],
    ],
    ids=["whole", "empty", "nothing", "failed", "failed later", "no first token", "no next token", "a bug"],
)
def test_no_timer_is_left_behind(loop: ManualLoop, script: list[Step]) -> None:
    """However it ended: one for each stream would be a leak."""
    listener = Listener(loop, *script)
    with contextlib.suppress(RuntimeError):
        loop.run(listener.listen())
    assert pending(loop) == 0


def test_no_timer_is_left_behind_a_cancelled_stream(loop: ManualLoop) -> None:
    """Nor one that the first token replaced."""
    listener = Listener(loop, 1.0, [Text("a")], asyncio.Event())

    async def cancel() -> None:
        task = asyncio.create_task(listener.listen())
        await asyncio.sleep(5)
        assert pending(loop) == 1
        task.cancel()
        await asyncio.wait([task])

    loop.run(cancel())
    assert pending(loop) == 0


@pytest.mark.parametrize("after_s", [0.0, 10.0, FIRST_S, FIRST_S + 5], ids=["at once", "meanwhile", "together", "late"])
def test_a_cancellation_from_outside_stays_a_cancellation(loop: ManualLoop, after_s: float) -> None:
    """Also at the very moment at which the time is over: who cancels the stream must win, or the ring came first."""
    listener = Listener(loop, HANG)

    async def cancel() -> None:
        task = asyncio.create_task(listener.listen())
        loop.call_later(after_s, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled() == (after_s <= FIRST_S)

    loop.run(cancel())
    assert (listener.error is None) == (after_s <= FIRST_S)
    assert listener.source.closed == listener.source.calls


def test_errors_of_the_source_pass(loop: ManualLoop) -> None:
    """As they are."""
    listener = Listener(loop, [Text("a")], GatewayError(Code.UPSTREAM_ERROR))
    loop.run(listener.listen())
    assert listener.error is not None
    assert listener.error.code is Code.UPSTREAM_ERROR


def test_it_is_its_source_in_everything_else(loop: ManualLoop) -> None:
    """Name, exactness, health and closing."""
    deadline = Listener(loop).deadline
    assert (deadline.name, deadline.exact) == ("scripted", False)
    loop.run(deadline.check())
    loop.run(deadline.close())
