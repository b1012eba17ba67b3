"""Waiter: wakes when a stream has come to some state, and is told no more once it is closed."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.delivery.waiter import Waiter
from gateway.events import Status, Text
from gateway.streams.stream import Stream
from tests.doubles import DONE, ManualLoop, stream_of


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    """Time jumps instead of passing."""
    loop = ManualLoop()
    yield loop
    loop.close()


async def wait(stream: Stream, limit_s: float | None = None) -> bool:
    """For the stream to begin."""
    with closing(Waiter(stream)) as waiter:
        assert stream.readers == 1
        return await waiter.wait(lambda: stream.begun, limit_s)


def test_what_is_so_already_is_not_waited_for(loop: ManualLoop) -> None:
    """Nobody needs to append anything first."""
    assert loop.run(wait(stream_of(Text("a"))))


def test_it_wakes_when_it_becomes_so(loop: ManualLoop) -> None:
    """Not at the first event but at the right one, and without waiting for its limit."""
    stream = stream_of()
    loop.call_later(5, stream.append, [Status("thinking")])
    loop.call_later(10, stream.append, [Text("a"), Text("b")])
    begin = loop.time()
    assert loop.run(wait(stream, 50))
    assert loop.time() == pytest.approx(begin + 10, abs=0.1)
    assert stream.readers == 0


def test_it_gives_up_at_its_limit(loop: ManualLoop) -> None:
    """And says that it is not so; nothing is left attached."""
    stream = stream_of()
    begin = loop.time()
    assert not loop.run(wait(stream, 50))
    assert loop.time() == pytest.approx(begin + 50, abs=0.1)
    stream.append([Text("late")])
    assert stream.readers == 0


def test_an_end_without_a_beginning_is_enough(loop: ManualLoop) -> None:
    """Who waits for content must not wait for ever."""
    stream = stream_of()
    loop.call_later(5, stream.finish, DONE)
    assert loop.run(wait(stream))


def test_several_appends_in_one_turn_wake_once(loop: ManualLoop) -> None:
    """The second one finds it woken already."""
    stream = stream_of()

    def burst() -> None:
        for event in (Status("s"), Status("t"), Text("a")):
            stream.append([event])

    loop.call_later(1, burst)
    assert loop.run(wait(stream))
