"""What becomes of a stream when its readers leave: its own policy says so."""

import asyncio
import contextlib
from typing import Any

import pytest

from gateway.events import Text
from gateway.request import OnDisconnect
from gateway.streams.stream import State
from tests.bench import WHOLE, Bench, ending, over
from tests.doubles import BOB, END
from tests.house import eventually

GRACE_S = 0.03


@pytest.mark.parametrize(("policy", "grace_s"), [(OnDisconnect.CANCEL, 30.0), (OnDisconnect.GRACE, 0.0)])
async def test_the_last_reader_s_leaving_cancels_at_once(bench: Bench, policy: OnDisconnect, grace_s: float) -> None:
    """The last one's, not the first one's; and the source is closed."""
    stream = (await bench.open(on_disconnect=policy, grace_s=grace_s)).stream
    with bench.hub.reading(stream):
        with bench.hub.reading(stream):
            await eventually(lambda: stream.content_events)
        await asyncio.sleep(0.01)
        assert not stream.sealed
    await over(stream, 1.0)
    assert ending(stream) == ("cancelled", "orphaned")
    assert bench.sources[0].closed == 1


async def test_grace_waits_for_somebody_to_come_back(bench: Bench) -> None:
    """Nobody comes: cancelled when it is over, not before."""
    stream = (await bench.open(grace_s=GRACE_S)).stream
    loop = asyncio.get_running_loop()
    with bench.hub.reading(stream):
        await asyncio.sleep(0)
    left = loop.time()
    await over(stream)
    assert loop.time() - left >= GRACE_S
    assert ending(stream) == ("cancelled", "orphaned")


async def test_who_comes_back_within_the_grace_saves_the_stream(bench: Bench) -> None:
    """For as long as he reads, and then the grace begins anew."""
    stream = (await bench.open(grace_s=GRACE_S)).stream
    for _ in range(2):
        with bench.hub.reading(stream):
            await asyncio.sleep(2 * GRACE_S)
            assert not stream.sealed
    await over(stream)


async def test_a_detached_stream_runs_on(bench: Bench) -> None:
    """Unread, without a limit but its own."""
    go = asyncio.Event()
    stream = (await bench.open([Text("a")], go, [END], on_disconnect=OnDisconnect.DETACH, grace_s=0.0)).stream
    with bench.hub.reading(stream):
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert not stream.ended
    go.set()
    await over(stream)
    assert stream.state is State.COMPLETED


async def test_a_reader_who_fails_leaves_too(bench: Bench) -> None:
    """An exception in the reading is a leaving, and goes on to whom it concerns."""
    stream = (await bench.open(on_disconnect=OnDisconnect.CANCEL)).stream
    with pytest.raises(RuntimeError, match="mine"), bench.hub.reading(stream):
        raise RuntimeError("mine")
    await over(stream)


async def test_reading_an_ended_stream_cancels_nothing(bench: Bench) -> None:
    """Its readers come and go."""
    stream = await over((await bench.open(*WHOLE, on_disconnect=OnDisconnect.CANCEL)).stream)
    with bench.hub.reading(stream):
        pass
    await eventually(lambda: not bench.hub.running)
    with bench.hub.reading(stream):
        pass
    assert stream.state is State.COMPLETED


async def test_a_new_question_of_a_session_supersedes_its_orphan(bench: Bench) -> None:
    """And only its own orphan: not what is read, not another session's, not another user's."""
    session: dict[str, Any] = {"session_id": "s1", "grace_s": 30.0}
    orphan = (await bench.open(**session)).stream
    read = (await bench.open(**session)).stream
    foreign = (await bench.open(caller=BOB, **session)).stream
    other = (await bench.open(session_id="s9", grace_s=30.0)).stream
    with contextlib.ExitStack() as readers:
        readers.enter_context(bench.hub.reading(read))
        for stream in (orphan, foreign, other):
            with bench.hub.reading(stream):
                await asyncio.sleep(0)
        await bench.open(**session)
        await over(orphan)
        await asyncio.sleep(0)
        assert ending(orphan) == ("cancelled", "superseded")
        assert not any(stream.sealed for stream in (read, foreign, other))


async def test_who_was_found_again_is_no_orphan_to_supersede(bench: Bench) -> None:
    """Two tabs of a session may read two streams."""
    stream = (await bench.open(session_id="s1")).stream
    with bench.hub.reading(stream):
        pass
    with bench.hub.reading(stream):
        await bench.open(session_id="s1")
        await asyncio.sleep(0.01)
        assert not stream.sealed
