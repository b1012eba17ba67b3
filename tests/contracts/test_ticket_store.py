"""Every keeper of tickets keeps the same promises; the one in Redis runs against a real server."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.errors import Code, GatewayError
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.tickets_memory import MemoryTickets
from gateway.stores.tickets_redis import RedisTickets
from gateway.tickets import Ticket, TicketStore
from tests.doubles import ManualClock
from tests.redis_server import RedisServer
from tests.stores.shared import clients_of, log_of

UNUSED_S, USED_S, MOST, SHARE = 0.2, 0.6, 5, 3
TICKET = Ticket("acme", "alice", "s1", "key:acme:0123")
RIVALS = Ticket("rival", None, "s1", "public:rival:x")


def of_several(number: int) -> Ticket:
    """A ticket of one of several tenants."""
    return TICKET._replace(tenant=f"tenant-{number % MOST}")


def digest(name: str) -> str:
    """Of the ticket of that name."""
    return hashlib.sha256(name.encode()).hexdigest()


class Keeper:
    """Makes stores that share their tickets, and lets time pass for them."""

    def __init__(self, store: TicketStore, other: TicketStore, passes: Callable[[float], Awaitable[None]]) -> None:
        self.store = store
        self.other = other
        self.passes = passes


@pytest.fixture(params=["memory", "redis"])
async def keeper(request: pytest.FixtureRequest) -> AsyncIterator[Keeper]:
    """Of both kinds; in Redis the two stores are those of two processes."""
    if request.param == "memory":
        clock = ManualClock()
        store = MemoryTickets(unused_s=UNUSED_S, used_s=USED_S, most=MOST, share=SHARE, clock=clock)

        async def passes(seconds: float) -> None:
            clock.advance(seconds)

        yield Keeper(store, store, passes)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    async with AsyncExitStack() as stack:
        couriers = [log_of(await stack.enter_async_context(clients_of(server))).courier for _ in range(2)]
        yield Keeper(_of(couriers[0]), _of(couriers[1]), asyncio.sleep)


def _of(courier: Courier) -> RedisTickets:
    return RedisTickets(courier, Keys("test"), unused_s=UNUSED_S, used_s=USED_S, most=MOST, share=SHARE)


async def test_a_ticket_is_found_as_it_was_kept(keeper: Keeper) -> None:
    """With nothing lost on the way, names that are none among it."""
    nobody = Ticket("acme", None, None, "public:acme:x")
    await keeper.store.keep(digest("a"), TICKET)
    await keeper.store.keep(digest("b"), nobody)
    assert await keeper.other.find(digest("a")) == TICKET
    assert await keeper.other.find(digest("b")) == nobody
    assert await keeper.other.find(digest("c")) is None


async def test_an_unused_ticket_is_good_for_a_short_time(keeper: Keeper) -> None:
    """Whoever finds it later in a log or a history has nothing."""
    await keeper.store.keep(digest("a"), TICKET)
    await keeper.passes(UNUSED_S + 0.05)
    assert await keeper.store.find(digest("a")) is None
    assert await keeper.store.redeem(digest("a"), "one") is None


async def test_of_racing_openings_exactly_one_wins(keeper: Keeper) -> None:
    """And the others are told which stream it is."""
    await keeper.store.keep(digest("a"), TICKET)
    stores = [keeper.store, keeper.other] * 10
    found = await asyncio.gather(*(store.redeem(digest("a"), f"sid{number}") for number, store in enumerate(stores)))
    assert len(set(found)) == 1
    assert found[0] in {f"sid{number}" for number in range(20)}
    assert await keeper.other.find(digest("a")) == TICKET._replace(sid=found[0])


async def test_a_used_ticket_is_kept_as_long_as_its_stream(keeper: Keeper) -> None:
    """So that its holder can come back to that one, and then no longer."""
    await keeper.store.keep(digest("a"), TICKET)
    assert await keeper.store.redeem(digest("a"), "one") == "one"
    await keeper.passes(UNUSED_S + 0.05)
    assert await keeper.other.redeem(digest("a"), "two") == "one"
    await keeper.passes(USED_S)
    assert await keeper.other.find(digest("a")) is None


async def test_a_ticket_whose_stream_did_not_come_to_be_may_be_used_again(keeper: Keeper) -> None:
    """By the one whom it was bound to, and by nobody else's doing."""
    await keeper.store.keep(digest("a"), TICKET)
    await keeper.store.redeem(digest("a"), "one")
    await keeper.other.release(digest("a"), "two")
    assert await keeper.store.redeem(digest("a"), "three") == "one"
    await keeper.store.release(digest("a"), "one")
    assert await keeper.other.find(digest("a")) == TICKET
    assert await keeper.other.redeem(digest("a"), "three") == "three"


async def test_only_so_many_wait_to_be_used(keeper: Keeper) -> None:
    """Who asks for more is refused; when their time is over there is room again."""
    for number in range(MOST):
        await keeper.store.keep(digest(str(number)), of_several(number))
    with pytest.raises(GatewayError) as refused:
        await keeper.other.keep(digest("one more"), TICKET)
    assert refused.value.code is Code.OVERLOADED
    await keeper.passes(UNUSED_S + 0.05)
    await keeper.other.keep(digest("one more"), TICKET)
    assert await keeper.store.find(digest("one more")) == TICKET


async def test_of_used_ones_the_oldest_are_let_go(keeper: Keeper) -> None:
    """However many streams are opened, memory is bounded."""
    for number in range(MOST + 2):
        await keeper.store.keep(digest(str(number)), of_several(number))
        assert await keeper.store.redeem(digest(str(number)), f"sid{number}") == f"sid{number}"
        await keeper.passes(0.002)
    found = [await keeper.other.find(digest(str(number))) for number in range(MOST + 2)]
    assert [ticket is not None for ticket in found] == [False] * 2 + [True] * MOST


async def test_one_tenant_does_not_take_the_room_of_all(keeper: Keeper) -> None:
    """It is refused at its share, and others are not; what it uses makes room again."""
    for number in range(SHARE):
        await keeper.store.keep(digest(str(number)), RIVALS)
    with pytest.raises(GatewayError) as refused:
        await keeper.other.keep(digest("one more"), RIVALS)
    assert (refused.value.code, refused.value.status) == (Code.OVERLOADED, 503)
    await keeper.store.keep(digest("acme's"), TICKET)
    assert await keeper.other.redeem(digest("0"), "sid") == "sid"
    await keeper.other.keep(digest("one more"), RIVALS)


async def test_one_tenants_used_tickets_push_out_none_of_another(keeper: Keeper) -> None:
    """Of its own the oldest are let go beyond its share."""
    await keeper.store.keep(digest("acme's"), TICKET)
    assert await keeper.store.redeem(digest("acme's"), "acme's") == "acme's"
    for number in range(2 * MOST):
        await keeper.passes(0.002)
        await keeper.store.keep(digest(str(number)), RIVALS)
        assert await keeper.other.redeem(digest(str(number)), f"sid{number}") == f"sid{number}"
    found = [await keeper.other.find(digest(str(number))) for number in range(2 * MOST)]
    assert [ticket is not None for ticket in found] == [False] * (2 * MOST - SHARE) + [True] * SHARE
    assert await keeper.other.find(digest("acme's")) == TICKET._replace(sid="acme's")


async def test_a_ticket_that_is_used_again_counts_once(keeper: Keeper) -> None:
    """However often its stream does not come to be."""
    await keeper.store.keep(digest("a"), RIVALS)
    for number in range(2 * MOST):
        assert await keeper.store.redeem(digest("a"), f"sid{number}") == f"sid{number}"
        await keeper.other.release(digest("a"), f"sid{number}")
    for number in range(SHARE - 1):
        await keeper.store.keep(digest(str(number)), RIVALS)
    with pytest.raises(GatewayError):
        await keeper.store.keep(digest("one more"), RIVALS)


async def test_while_redis_is_away_tickets_are_not_now(redis_server: RedisServer) -> None:
    """503 and a time, never a 401: the ticket may be good."""
    async with clients_of(redis_server, 0.2) as clients:
        store = _of(log_of(clients, 0.2).courier)
        await store.keep(digest("a"), TICKET)
        redis_server.kill()
        for asked in (store.find(digest("a")), store.redeem(digest("a"), "one"), store.keep(digest("b"), TICKET)):
            with pytest.raises(GatewayError) as refused:
                await asked
            assert refused.value.code is Code.STORE_AWAY
        redis_server.start()


async def test_in_redis_stands_no_ticket_but_only_its_digest(redis_server: RedisServer) -> None:
    """Whoever reads Redis cannot come in with what stands there."""
    async with clients_of(redis_server) as clients:
        store = _of(log_of(clients).courier)
        await store.keep(digest("the ticket itself"), TICKET)
        names = await clients.commands.keys("*")
        assert names
        assert all(b"ticket itself" not in name for name in names)


async def test_what_another_version_wrote_is_no_ticket(redis_server: RedisServer) -> None:
    """And not the end of anything either."""
    async with clients_of(redis_server) as clients:
        store = _of(log_of(clients).courier)
        await clients.commands.hset(Keys("test").ticket(digest("a")), mapping={"for": b"[1", "sid": b""})
        assert await store.find(digest("a")) is None
