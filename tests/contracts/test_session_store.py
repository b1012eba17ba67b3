"""What a SessionStore promises, in memory and over a real Redis: bounded, owned, forgotten in time, written once."""

from collections.abc import AsyncIterator, Sized
from functools import partial
from typing import NamedTuple

import pytest

from gateway.request import Caller
from gateway.sessions import Exchange, SessionBounds, SessionStore
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.redis_client import connect
from gateway.stores.sessions_memory import MemorySessions
from gateway.stores.sessions_redis import RedisSessions
from gateway.streams.ids import new_sid
from tests.doubles import ManualClock
from tests.house import eventually
from tests.redis_server import RedisServer

BOUNDS = SessionBounds(max_sessions=40, max_turns=3, max_bytes=2000, ttl_s=60.0)
ALICE, BOB = Caller("acme", "alice"), Caller("acme", "bob")
STRANGERS = (BOB, Caller("acme"), Caller("other", "alice"), Caller("other"), Caller("acme", "s"), Caller("s", "acme"))


def is_empty(values: Sized) -> bool:
    """Whether there is nothing."""
    return not len(values)


class Case(NamedTuple):
    """A store, and how its time passes; `other` is the same store in another process, where there are several."""

    store: SessionStore
    other: SessionStore
    clock: ManualClock
    server: RedisServer | None

    async def settled(self) -> None:
        """All that was written stands where all see it."""
        for store in (self.store, self.other):
            if isinstance(store, RedisSessions):
                await eventually(partial(is_empty, store._waiting))

    async def passes(self, seconds: float) -> None:
        """Time, as the store counts it."""
        await self.settled()
        self.clock.advance(seconds)
        if self.server is not None:
            for key in self.server.command("KEYS", "*"):
                left_ms = self.server.command("PTTL", key)
                if left_ms > 0:
                    self.server.command("PEXPIRE", key, int(left_ms - seconds * 1000))


@pytest.fixture(params=["memory", "redis"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    """An empty store of each kind."""
    clock = ManualClock()
    if request.param == "memory":
        store = MemorySessions(BOUNDS, memory_bytes=1 << 20, clock=clock)
        yield Case(store, store, clock, None)
        return
    server = request.getfixturevalue("redis_server")
    clients = connect(server.url, 2.0)
    stores = [
        RedisSessions(Courier(lambda: Batch(clients.commands, 2.0)), Keys("contract"), BOUNDS, memory_bytes=1 << 20)
        for _ in range(2)
    ]
    yield Case(stores[0], stores[1], clock, server)
    for each in stores:
        await each.close()
    await clients.aclose()


def turn(question: str = "q", answer: str = "a", sid: str = "") -> Exchange:
    """One turn of a conversation."""
    return Exchange(sid or new_sid(), question, answer, 1_700_000_000, 1_700_000_002)


async def test_what_is_written_is_read_at_once_and_everywhere(case: Case) -> None:
    """In order, whole, whatever its characters; at once in the process that wrote it, and soon in the others."""
    turns = [turn("one", "1"), turn('two [",\n\x00', "zwei ≠ 二 🎈")]
    for each in turns:
        case.store.write(ALICE, "s", each)
    assert case.store.unwritten(ALICE, "s") in ([], turns)
    assert await case.store.read(ALICE, "s") == turns
    await case.settled()
    assert case.store.unwritten(ALICE, "s") == []
    assert await case.store.read(ALICE, "s") == await case.other.read(ALICE, "s") == turns


async def test_a_session_belongs_to_its_owner(case: Case) -> None:
    """Nobody else can read it or delete it, and the same name under another owner is another session."""
    mine = turn("mine")
    case.store.write(ALICE, "s", mine)
    await case.settled()
    for stranger in STRANGERS:
        assert await case.other.read(stranger, "s") == []
        assert not await case.other.delete(stranger, "s")
    assert await case.store.read(ALICE, "other") == []
    case.store.write(BOB, "s", turn("his"))
    await case.settled()
    assert await case.other.read(ALICE, "s") == [mine]


async def test_it_is_the_users_whatever_session_the_caller_comes_from(case: Case) -> None:
    """The session in the caller is what a stream belongs to; what is remembered is found by its own name."""
    case.store.write(Caller("acme", "alice", "s"), "s", turn())
    await case.settled()
    assert len(await case.other.read(Caller("acme", "alice", "elsewhere"), "s")) == 1


async def test_a_turn_stands_there_once(case: Case) -> None:
    """However often it is written, in whatever process: a stream may be ended by two of them."""
    once, later = turn("once"), turn("later")
    for store in (case.store, case.other):
        for each in (once, later, once):
            store.write(ALICE, "s", each)
            await case.settled()
    assert await case.store.read(ALICE, "s") == [once, later]


async def test_only_the_newest_turns_are_kept(case: Case) -> None:
    """The oldest go whole, by their number."""
    turns = [turn(str(number)) for number in range(5)]
    for each in turns:
        case.store.write(ALICE, "s", each)
        await case.settled()
    assert await case.other.read(ALICE, "s") == turns[-3:]


async def test_only_what_fits_is_kept(case: Case) -> None:
    """And by their size; the newest is there in any case."""
    for number in range(3):
        case.store.write(ALICE, "s", turn(str(number), "x" * 900))
        await case.settled()
    assert [each.question for each in await case.other.read(ALICE, "s")] == ["1", "2"]
    case.store.write(ALICE, "s", turn("large", "y" * 1990))
    await case.settled()
    assert [each.question for each in await case.other.read(ALICE, "s")] == ["large"]


@pytest.mark.parametrize("character", ["x", "é", "🎈", "\x00"])
async def test_a_turn_of_a_megabyte_is_cut_to_what_fits(case: Case, character: str) -> None:
    """Its beginning stays, of the question and of the answer, and never half a character."""
    case.store.write(ALICE, "s", turn(character * 1_000_000, character * 1_000_000))
    await case.settled()
    (kept,) = await case.other.read(ALICE, "s")
    assert 1900 < kept.size <= 2000
    assert set(kept.question) == set(kept.answer) == {character}


async def test_it_is_forgotten_a_time_after_its_last_turn(case: Case) -> None:
    """Each turn begins the time anew."""
    case.store.write(ALICE, "s", turn("first"))
    await case.passes(59)
    case.store.write(ALICE, "s", turn("second"))
    await case.passes(59)
    assert len(await case.other.read(ALICE, "s")) == 2
    await case.passes(1.01)
    assert await case.other.read(ALICE, "s") == []
    assert not await case.store.delete(ALICE, "s")


async def test_of_too_many_sessions_those_silent_longest_go_first(case: Case) -> None:
    """However many come."""
    for number in range(60):
        case.store.write(ALICE, f"s{number}", turn())
        await case.settled()
        if number == 45:
            case.store.write(ALICE, "s30", turn("again"))
            await case.settled()
    kept = [number for number in range(60) if await case.other.read(ALICE, f"s{number}")]
    assert kept == [30, *range(41, 60)]


async def test_a_tenant_with_many_sessions_pushes_out_none_of_another(case: Case) -> None:
    """Of its own the oldest go when it has half of all; and so it is with users and without."""
    case.store.write(Caller("other", "carol"), "hers", turn())
    await case.settled()
    for number in range(100):
        case.store.write(Caller("acme", f"user-{number}" if number % 2 else None), f"s{number}", turn())
        await case.settled()
    assert len(await case.other.read(Caller("other", "carol"), "hers")) == 1
    kept = [
        number
        for number in range(100)
        if await case.other.read(Caller("acme", f"user-{number}" if number % 2 else None), f"s{number}")
    ]
    assert kept == list(range(80, 100))


async def test_all_tenants_together_have_no_more_than_all(case: Case) -> None:
    """However many they are: those silent longest go first."""
    for number in range(60):
        case.store.write(Caller(f"tenant-{number % 6}"), f"s{number}", turn())
        await case.settled()
    kept = [number for number in range(60) if await case.other.read(Caller(f"tenant-{number % 6}"), f"s{number}")]
    assert kept == list(range(20, 60))


async def test_a_deleted_session_takes_no_room(case: Case) -> None:
    """Neither of all nor of its tenant."""
    for number in range(20):
        case.store.write(ALICE, f"s{number}", turn())
        await case.settled()
    for number in range(10, 20):
        assert await case.store.delete(ALICE, f"s{number}")
    for number in range(20, 30):
        case.store.write(ALICE, f"s{number}", turn())
        await case.settled()
    assert [number for number in range(30) if await case.other.read(ALICE, f"s{number}")] == [
        *range(10),
        *range(20, 30),
    ]


async def test_a_deleted_session_is_gone_everywhere(case: Case) -> None:
    """Whether its turns were written already or waited; deleting it again finds nothing."""
    case.store.write(ALICE, "s", turn())
    await case.settled()
    case.store.write(ALICE, "s", turn("waits"))
    assert await case.store.delete(ALICE, "s")
    await case.settled()
    assert await case.store.read(ALICE, "s") == await case.other.read(ALICE, "s") == []
    assert not await case.other.delete(ALICE, "s")


async def test_nothing_of_a_conversation_is_in_a_name(case: Case) -> None:
    """Names in the shared store are digests: who lists them learns neither users nor sessions."""
    case.store.write(Caller("acme", "alice-the-user"), "the-session", turn())
    await case.settled()
    names = case.server.command("KEYS", "*") if case.server is not None else []
    assert not [name for name in names if "alice" in name or "the-session" in name or "acme" in name]
