"""LocalSource: paced as a model, exact as a machine."""

import asyncio
import re
from typing import Any

import pytest

from gateway.events import Event, Metadata, Text, TextComplete, Usage
from gateway.request import OnDisconnect, StreamRequest
from gateway.sources.local import LocalSource
from gateway.sources.markdown import Passage
from gateway.sources.passages import Library

BODY = "Use warm air, then wait; extraordinarily patient people let it hang. " * 9
LIBRARY = Library([Passage("manual.md", "How to dry it", BODY)])


def request(question: str = "drying", **fields: Any) -> StreamRequest:
    """A question to the local model."""
    messages = ({"role": "user", "content": question},)
    return StreamRequest(messages=messages, model="local", on_disconnect=OnDisconnect.GRACE, grace_s=1, **fields)


def source(first_token_s: float = 0, tokens_per_s: float = 0) -> LocalSource:
    """A local source over one passage."""
    return LocalSource(LIBRARY, first_token_s=first_token_s, tokens_per_s=tokens_per_s)


async def batches(source: LocalSource, asked: StreamRequest, skip: int = 0) -> list[list[Event]]:
    """All that it pours."""
    poured: list[list[Event]] = []
    await source.pour(asked, poured.append, skip)
    return poured


async def read(source: LocalSource, asked: StreamRequest, skip: int = 0) -> list[Event]:
    """All events, batches joined."""
    return [event for batch in await batches(source, asked, skip) for event in batch]


class ManualClock:
    """Time that passes only when somebody sleeps; `late_s` is how much too late every sleep ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late_s: float = 0.0) -> None:
        self.now = 100.0
        self.late_s = late_s
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds + self.late_s


async def test_an_answer_is_facts_then_text_then_a_proper_end() -> None:
    """Metadata with the sources, the whole text in small pieces, and the source's own end marker."""
    events = await read(source(), request())
    first, *pieces, last = events
    assert first == Metadata({"model": "local", "sources": ["manual.md#How to dry it"]})
    assert "".join(piece.token for piece in pieces if isinstance(piece, Text)) == LIBRARY.answer("drying").text
    assert all(isinstance(piece, Text) for piece in pieces)
    assert last == TextComplete("stop", Usage(1, len(pieces)))


async def test_pieces_are_about_as_long_as_tokens() -> None:
    """A word with the space before it; long words in pieces of eight characters."""
    pieces = [event.token for event in source().answer(request()) if isinstance(event, Text)]
    assert pieces[:3] == ["Use", " warm", " air,"]
    assert pieces[5:8] == [" extraord", "inarily", " patient"]
    assert all(len(re.sub(r"\s", "", piece)) <= 8 for piece in pieces)


async def test_the_same_question_gives_the_same_events() -> None:
    """Exact: asked again, even of another instance, every event is the same."""
    assert source().exact
    assert await read(source(), request()) == await read(source(), request())


@pytest.mark.parametrize("skip", [1, 2, 17, 500])
async def test_what_was_said_before_comes_again_without_thinking_and_pace(
    monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    """The first events at once, whoever follows stands where it stood; the rest as it is due."""
    clock = ManualClock(monkeypatch)
    times: list[float] = []
    events: list[Event] = []

    def outlet(batch: list[Event]) -> None:
        times.extend(clock.now - 100 for _ in batch)
        events.extend(batch)

    await source(first_token_s=2, tokens_per_s=10).pour(request(), outlet, skip)
    whole = source().answer(request())
    again = min(skip, len(whole))
    assert events == whole
    assert times == pytest.approx([0.0] * again + [0.1 * number for number in range(len(whole) - again)])


async def test_max_tokens_cuts_and_says_so() -> None:
    """The answer has so many pieces, ends with `length`, and its usage counts what was said."""
    *said, last = source().answer(request(max_tokens=5))
    assert sum(isinstance(event, Text) for event in said) == 5
    assert isinstance(last, TextComplete)
    assert (last.finish_reason, last.usage) == ("length", Usage(1, 5))


async def test_max_tokens_that_suffices_changes_nothing() -> None:
    """An answer that fits ends with `stop`, also when it fits exactly."""
    whole = source().answer(request())
    pieces = sum(isinstance(event, Text) for event in whole)
    assert source().answer(request(max_tokens=pieces)) == whole


async def test_the_prompt_is_counted_over_the_whole_conversation() -> None:
    """Usage counts every message, as a provider does."""
    messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "drying it"})
    asked = StreamRequest(messages=messages, model="local", on_disconnect=OnDisconnect.GRACE, grace_s=1)
    last = source().answer(asked)[-1]
    assert isinstance(last, TextComplete)
    assert last.usage is not None
    assert last.usage.prompt_tokens == 4


async def test_tokens_come_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first after the thinking time, each next one a gap later, one at a time."""
    clock = ManualClock(monkeypatch)
    times = []

    def outlet(batch: list[Event]) -> None:
        assert len(batch) == 1
        times.append(clock.now - 100)

    await source(first_token_s=2, tokens_per_s=10).pour(request(max_tokens=5), outlet)
    assert times == pytest.approx([2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6])


async def test_what_is_overdue_comes_together_and_the_pace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that was late makes up for it: fewer, larger batches, and the same end."""
    clock = ManualClock(monkeypatch, late_s=0.5)
    sizes = [len(batch) for batch in await batches(source(tokens_per_s=10), request(max_tokens=30))]
    assert sum(sizes) == 32
    assert max(sizes) >= 5
    assert clock.now - 100 < 32 * 0.1 + 1


async def test_no_pace_is_as_fast_as_can_be_but_lets_others_run() -> None:
    """Batches of up to 64 events, with a turn of the loop for everybody else in between."""
    turns = 0
    done = False

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    sizes = [len(batch) for batch in await batches(source(), request())]
    done = True
    await task
    assert max(sizes) == 64
    assert turns >= len(sizes) >= 2


async def test_going_on_does_not_think_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes over an answer in the middle does not make the reader wait for a first token."""
    clock = ManualClock(monkeypatch)
    poured_at: list[float] = []
    await source(first_token_s=5, tokens_per_s=10).pour(request(), lambda _: poured_at.append(clock.now), 3)
    assert poured_at[0] == 100


async def test_it_is_always_there_and_offers_itself() -> None:
    """Health asks nothing of it, and its one model has its name."""
    local = source()
    await local.check()
    assert await local.models() == [local.name] == ["local"]
    await local.close()
