"""What every LogStore promises, whatever it keeps its logs in."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Text
from gateway.request import Caller
from gateway.stores.memory import MemoryStore
from gateway.streams.ids import new_sid
from gateway.streams.store import LogStore
from gateway.streams.stream import Stream
from tests.doubles import ALICE, BOB, DONE, ManualClock, question, stream_of

Make = Callable[[int, float, ManualClock], LogStore]

STORES: dict[str, Make] = {
    "memory": lambda max_bytes, retention_s, clock: MemoryStore(
        max_bytes=max_bytes, retention_s=retention_s, clock=clock
    ),
}
RETENTION_S = 600.0
KIB = 1024


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a store of one kind."""
    return STORES[request.param]


@pytest.fixture
def clock() -> ManualClock:
    """The store's idea of time."""
    return ManualClock()


@pytest.fixture
def store(make: Make, clock: ManualClock) -> LogStore:
    """With room for 64 KiB."""
    return make(64 * KIB, RETENTION_S, clock)


def stream_of_owner(owner: Caller = ALICE) -> Stream:
    """Without events."""
    return Stream(new_sid(), question(), owner)


async def code_of_find(store: LogStore, sid: str, caller: Caller) -> tuple[Code, str, int]:
    """How `find` says no."""
    with pytest.raises(GatewayError) as raised:
        await store.find(sid, caller)
    return raised.value.code, raised.value.message, raised.value.status


async def ended(store: LogStore, text: str = "x", owner: Caller = ALICE) -> Stream:
    """A finished stream in the store."""
    stream = stream_of_owner(owner)
    await store.create(stream)
    stream.append([Text(text)])
    stream.finish(DONE)
    store.settle(stream)
    return stream


async def test_what_is_created_is_found_by_its_owner(store: LogStore) -> None:
    """The very same stream, while it runs and after it has ended."""
    stream = stream_of()
    await store.create(stream)
    assert await store.find(stream.sid, ALICE) is stream
    stream.finish(DONE)
    store.settle(stream)
    assert await store.find(stream.sid, ALICE) is stream


@pytest.mark.parametrize(
    ("owner", "caller", "may"),
    [
        (Caller("acme", "alice", "s1"), Caller("acme", "alice", "another session"), True),
        (Caller("acme", "alice", "s1"), Caller("acme", "bob", "s1"), False),
        (Caller("acme", "alice", "s1"), Caller("acme", None, "s1"), False),
        (Caller("acme", "alice"), Caller("rival", "alice"), False),
        (Caller("acme", None, "s1"), Caller("acme", "bob", "s1"), True),
        (Caller("acme", None, "s1"), Caller("acme", None, "s2"), False),
        (Caller("acme", None, "s1"), Caller("acme"), False),
        (Caller("acme"), Caller("acme", "bob", "s2"), True),
        (Caller("acme"), Caller("rival"), False),
    ],
)
async def test_only_the_owner_finds_a_stream(store: LogStore, owner: Caller, caller: Caller, may: bool) -> None:
    """User before session before tenant; a stranger hears the same as of a stream that never was."""
    stream = await ended(store, owner=owner)
    if may:
        assert await store.find(stream.sid, caller) is stream
    else:
        assert await code_of_find(store, stream.sid, caller) == await code_of_find(store, new_sid(), caller)
        assert (await code_of_find(store, stream.sid, caller))[0] is Code.STREAM_NOT_FOUND


async def test_what_is_no_longer_kept_is_gone_for_its_owner_and_unknown_to_others(
    store: LogStore, clock: ManualClock
) -> None:
    """410 tells that a stream existed, so nobody else may hear it."""
    stream = await ended(store)
    clock.advance(RETENTION_S + 1)
    store.sweep()
    assert (await code_of_find(store, stream.sid, ALICE))[0] is Code.STREAM_EXPIRED
    assert await code_of_find(store, stream.sid, BOB) == await code_of_find(store, new_sid(), BOB)


async def test_retention_begins_with_the_end(store: LogStore, clock: ManualClock) -> None:
    """A running stream is never swept; an ended one is kept for its time, and not for longer."""
    running, first = stream_of(), await ended(store)
    await store.create(running)
    clock.advance(RETENTION_S - 1)
    second = await ended(store)
    store.sweep()
    assert await store.find(first.sid, ALICE) is first
    clock.advance(2)
    store.sweep()
    assert (await code_of_find(store, first.sid, ALICE))[0] is Code.STREAM_EXPIRED
    assert await store.find(second.sid, ALICE) is second
    clock.advance(10 * RETENTION_S)
    store.sweep()
    assert await store.find(running.sid, ALICE) is running


async def test_the_oldest_finished_streams_make_room(make: Make, clock: ManualClock) -> None:
    """In the order of their ends, not of their beginnings, and no more of them than needed."""
    store = make(14 * KIB, RETENTION_S, clock)
    long = stream_of_owner()
    await store.create(long)
    first = await ended(store, "x" * 3 * KIB)
    long.append([Text("x" * 3 * KIB)])
    long.finish(DONE)
    store.settle(long)
    running = stream_of_owner()
    await store.create(running)
    running.append([Text("x" * 6 * KIB)])
    assert (await code_of_find(store, first.sid, ALICE))[0] is Code.STREAM_EXPIRED
    assert await store.find(long.sid, ALICE) is long
    running.append([Text("x" * 3 * KIB)])
    assert (await code_of_find(store, long.sid, ALICE))[0] is Code.STREAM_EXPIRED
    assert await store.find(running.sid, ALICE) is running


async def test_live_streams_that_fill_the_store_keep_new_ones_out(make: Make, clock: ManualClock) -> None:
    """STORE_FULL with a time to come back; none of the live ones is harmed, and one that ends makes room."""
    store = make(8 * KIB, RETENTION_S, clock)
    live = stream_of_owner()
    await store.create(live)
    live.append([Text("x" * 8 * KIB)])
    with pytest.raises(GatewayError) as raised:
        await store.create(stream_of())
    assert raised.value.code is Code.STORE_FULL
    assert raised.value.retry_after_s
    assert await store.find(live.sid, ALICE) is live
    live.finish(DONE)
    store.settle(live)
    fresh = stream_of_owner()
    await store.create(fresh)
    assert await store.find(fresh.sid, ALICE) is fresh


async def test_a_live_stream_that_outgrows_all_room_ends_itself(make: Make, clock: ManualClock) -> None:
    """The bound holds against those that run as well: beyond a quarter more than all, who grows is told STORE_FULL."""
    store = make(8 * KIB, RETENTION_S, clock)
    live = stream_of_owner()
    await store.create(live)
    live.append([Text("x" * 4 * KIB)])
    live.append([Text("x" * 4 * KIB)])
    with pytest.raises(GatewayError) as raised:
        live.append([Text("x" * 4 * KIB)])
    assert raised.value.code is Code.STORE_FULL
    assert store.bytes_kept < 15 * KIB
    live.finish(DONE)
    assert live.ended


async def test_a_long_question_takes_memory_too(make: Make, clock: ManualClock) -> None:
    """The request is kept as long as its stream: short answers to long questions fill the store as well."""
    store = make(64 * KIB, RETENTION_S, clock)
    for _ in range(20):
        stream = Stream(new_sid(), question("x" * 10 * KIB), ALICE)
        await store.create(stream)
        stream.finish(DONE)
        store.settle(stream)
        assert store.bytes_kept <= 64 * KIB
    assert store.bytes_kept > 40 * KIB


async def test_memory_is_given_back_to_the_last_byte(make: Make, clock: ManualClock) -> None:
    """After many streams of many sizes, evicted and swept, nothing is kept and nothing is owed."""
    store = make(20 * KIB, RETENTION_S, clock)
    for n in range(100):
        await ended(store, "x" * (n * 37 % 3000))
        assert store.bytes_kept <= 20 * KIB
    assert store.bytes_kept > 10 * KIB
    clock.advance(RETENTION_S + 1)
    store.sweep()
    assert store.bytes_kept == 0


async def test_a_key_is_reserved_for_exactly_one_of_many_racing_calls(store: LogStore) -> None:
    """All the others hear who has it."""
    answers = await asyncio.gather(*[store.reserve(ALICE, "k", b"f", f"sid{n}") for n in range(50)])
    (winner,) = [n for n, answer in enumerate(answers) if answer is None]
    assert [answer for answer in answers if answer is not None] == [f"sid{winner}"] * 49


async def test_a_key_belongs_to_its_owner_and_to_one_question(store: LogStore) -> None:
    """Somebody else's key of the same name is another key; another question under the same key is refused."""
    assert await store.reserve(ALICE, "k", b"f", "a") is None
    assert await store.reserve(BOB, "k", b"g", "b") is None
    assert await store.reserve(ALICE, "k2", b"f", "c") is None
    with pytest.raises(GatewayError) as raised:
        await store.reserve(ALICE, "k", b"another", "d")
    assert raised.value.code is Code.IDEMPOTENCY_MISMATCH
    assert await store.reserve(ALICE, "k", b"f", "e") == "a"


async def test_a_released_key_is_free_for_any_question(store: LogStore) -> None:
    """Releasing is idempotent, and of no effect on other keys."""
    await store.reserve(ALICE, "k", b"f", "a")
    await store.reserve(ALICE, "k2", b"f", "b")
    await store.release(ALICE, "k")
    await store.release(ALICE, "k")
    await store.release(BOB, "k2")
    assert await store.reserve(ALICE, "k", b"another", "c") is None
    assert await store.reserve(ALICE, "k2", b"f", "d") == "b"


async def test_a_key_lives_as_long_as_its_stream(store: LogStore, clock: ManualClock) -> None:
    """While the stream can be read the key names it; after that the question may be asked anew."""
    stream = stream_of_owner()
    await store.reserve(ALICE, "k", b"f", stream.sid)
    await store.create(stream)
    stream.finish(DONE)
    store.settle(stream)
    assert await store.reserve(ALICE, "k", b"f", "other") == stream.sid
    clock.advance(RETENTION_S + 1)
    store.sweep()
    assert await store.reserve(ALICE, "k", b"f", "other") is None


async def test_settling_what_was_never_kept_is_harmless(store: LogStore) -> None:
    """Nothing is kept by it, nothing breaks."""
    store.settle(stream_of(DONE))
    store.sweep()
    assert store.bytes_kept == 0
