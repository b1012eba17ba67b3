"""What every LogStore promises, whatever it keeps its logs in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Text
from gateway.request import Caller
from gateway.stores.memory import MemoryStore
from gateway.streams.ids import new_sid
from gateway.streams.store import LogStore
from gateway.streams.stream import State, Stream, opened
from tests.contracts.shared import Sharing
from tests.doubles import ALICE, BOB, DONE, ManualClock, question, stream_of
from tests.redis_server import RedisServer

RETENTION_S = 600.0
KIB = 1024


class Keeper:
    """Makes stores of one kind; time passes for them, and for what they keep things in, when it is told to."""

    def __init__(self, sharing: Sharing | None) -> None:
        self._sharing = sharing
        self._clock = ManualClock()

    async def make(self, max_bytes: int = 64 * KIB) -> LogStore:
        """A store with so much room in memory."""
        memory = MemoryStore(max_bytes=max_bytes, retention_s=RETENTION_S, clock=self._clock)
        return memory if self._sharing is None else (await self._sharing.join(memory)).store

    async def passes(self, seconds: float) -> None:
        """Time, for everybody alike."""
        self._clock.advance(seconds)
        if self._sharing is not None:
            await self._sharing.passes(seconds)

    async def has_let_go(self, store: LogStore, stream: Stream) -> bool:
        """Whether the store keeps the stream in its memory no longer; where logs are shared it is read from there."""
        if self._sharing is None:
            return (await code_of_find(store, stream.sid, ALICE))[0] is Code.STREAM_EXPIRED
        await self._sharing.settled()
        return (found := await store.find(stream.sid, ALICE)) is not stream and found.text() == stream.text()


Make = Callable[[int], Awaitable[LogStore]]


@pytest.fixture(params=["memory", "redis"])
async def keeper(request: pytest.FixtureRequest) -> AsyncIterator[Keeper]:
    """Of both kinds; Redis is a real one."""
    if request.param == "memory":
        yield Keeper(None)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    async with Sharing(server, retention_s=RETENTION_S) as sharing:
        yield Keeper(sharing)


@pytest.fixture
def make(keeper: Keeper) -> Make:
    """Makes a store of one kind."""
    return keeper.make


@pytest.fixture
async def store(make: Make) -> LogStore:
    """With room for 64 KiB."""
    return await make(64 * KIB)


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
    store: LogStore, keeper: Keeper
) -> None:
    """410 tells that a stream existed, so nobody else may hear it."""
    stream = await ended(store)
    await keeper.passes(RETENTION_S + 1)
    store.sweep()
    assert (await code_of_find(store, stream.sid, ALICE))[0] is Code.STREAM_EXPIRED
    assert await code_of_find(store, stream.sid, BOB) == await code_of_find(store, new_sid(), BOB)


async def test_retention_begins_with_the_end(store: LogStore, keeper: Keeper) -> None:
    """A running stream is never swept; an ended one is kept for its time, and not for longer."""
    running, first = stream_of(), await ended(store)
    await store.create(running)
    await keeper.passes(RETENTION_S - 1)
    second = await ended(store)
    store.sweep()
    assert await store.find(first.sid, ALICE) is first
    await keeper.passes(2)
    store.sweep()
    assert (await code_of_find(store, first.sid, ALICE))[0] is Code.STREAM_EXPIRED
    assert await store.find(second.sid, ALICE) is second
    await keeper.passes(10 * RETENTION_S)
    store.sweep()
    assert await store.find(running.sid, ALICE) is running


async def test_the_oldest_finished_streams_make_room(make: Make, keeper: Keeper) -> None:
    """In the order of their ends, not of their beginnings, and no more of them than needed."""
    store = await make(14 * KIB)
    long = stream_of_owner()
    await store.create(long)
    first = await ended(store, "x" * 3 * KIB)
    long.append([Text("x" * 3 * KIB)])
    long.finish(DONE)
    store.settle(long)
    running = stream_of_owner()
    await store.create(running)
    running.append([Text("x" * 6 * KIB)])
    assert await keeper.has_let_go(store, first)
    assert await store.find(long.sid, ALICE) is long
    running.append([Text("x" * 3 * KIB)])
    assert await keeper.has_let_go(store, long)
    assert await store.find(running.sid, ALICE) is running


async def test_live_streams_that_fill_the_store_keep_new_ones_out(make: Make, keeper: Keeper) -> None:
    """STORE_FULL with a time to come back; none of the live ones is harmed, and one that ends makes room."""
    store = await make(8 * KIB)
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


async def test_a_live_stream_that_outgrows_all_room_ends_itself(make: Make, keeper: Keeper) -> None:
    """The bound holds against those that run as well: beyond a quarter more than all, who grows is told STORE_FULL."""
    store = await make(8 * KIB)
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


async def test_a_long_question_takes_memory_too(make: Make, keeper: Keeper) -> None:
    """The request is kept as long as its stream: short answers to long questions fill the store as well."""
    store = await make(64 * KIB)
    for _ in range(20):
        stream = Stream(new_sid(), question("x" * 10 * KIB), ALICE)
        await store.create(stream)
        stream.finish(DONE)
        store.settle(stream)
        assert store.bytes_kept <= 64 * KIB
    assert store.bytes_kept > 40 * KIB


async def test_memory_is_given_back_to_the_last_byte(make: Make, keeper: Keeper) -> None:
    """After many streams of many sizes, evicted and swept, nothing is kept and nothing is owed."""
    store = await make(20 * KIB)
    for n in range(100):
        await ended(store, "x" * (n * 37 % 3000))
        assert store.bytes_kept <= 20 * KIB
    assert store.bytes_kept > 10 * KIB
    await keeper.passes(RETENTION_S + 1)
    store.sweep()
    assert store.bytes_kept == 0


async def held(store: LogStore, key: str, fingerprint: bytes = b"f", owner: Caller = ALICE) -> Stream:
    """The stream that has the key: a new one if it was free."""
    stream = stream_of_owner(owner)
    holder = await store.reserve(owner, key, fingerprint, stream.sid)
    if holder is not None:
        return await store.find(holder, owner)
    await store.create(stream)
    return stream


async def test_a_key_is_reserved_for_exactly_one_of_many_racing_calls(store: LogStore) -> None:
    """All the others hear who has it."""
    streams = await asyncio.gather(*[held(store, "k") for _ in range(50)])
    assert len({stream.sid for stream in streams}) == 1


async def test_a_key_belongs_to_its_owner_and_to_one_question(store: LogStore) -> None:
    """Somebody else's key of the same name is another key; another question under the same key is refused."""
    first = await held(store, "k")
    assert await held(store, "k", b"g", BOB) is not first
    assert await held(store, "k2") is not first
    with pytest.raises(GatewayError) as raised:
        await store.reserve(ALICE, "k", b"another", new_sid())
    assert raised.value.code is Code.IDEMPOTENCY_MISMATCH
    assert await held(store, "k") is first


async def test_a_released_key_is_free_for_any_question(store: LogStore) -> None:
    """Releasing is idempotent, and of no effect on other keys."""
    first, second = await held(store, "k"), await held(store, "k2")
    await store.release(ALICE, "k")
    await store.release(ALICE, "k")
    await store.release(BOB, "k2")
    assert await held(store, "k", b"another") is not first
    assert await held(store, "k2") is second


async def test_a_key_lives_as_long_as_its_stream(store: LogStore, keeper: Keeper) -> None:
    """While the stream can be read the key names it; after that the question may be asked anew."""
    stream = await held(store, "k")
    stream.finish(DONE)
    store.settle(stream)
    assert await held(store, "k") is stream
    await keeper.passes(RETENTION_S + 1)
    store.sweep()
    assert await held(store, "k") is not stream


async def test_only_who_opened_streams_finds_them_in_the_list(store: LogStore, keeper: Keeper) -> None:
    """The newest first, with how they stand; those of nobody in particular are in nobody's list."""
    first, second = Stream(new_sid(), question(), ALICE, created_s=1000), await ended(store)
    first.aside(opened(first.request))
    await store.create(first)
    await ended(store, owner=Caller("acme"))
    await held(store, "k", owner=BOB)
    await keeper.passes(0)
    listed = [(summary.sid, summary.state) for summary in await store.streams_of(ALICE)]
    assert listed == [(second.sid, State.COMPLETED), (first.sid, State.OPEN)]
    assert await store.streams_of(Caller("acme")) == []


async def test_settling_what_was_never_kept_is_harmless(store: LogStore) -> None:
    """Nothing is kept by it, nothing breaks."""
    store.settle(stream_of(DONE))
    store.sweep()
    assert store.bytes_kept == 0
