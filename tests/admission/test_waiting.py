"""The waiting room: slots go to those whose turn it is, at once, and nobody loses one."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from gateway.errors import Code, GatewayError
from gateway.limits import Budget, Charge, Slots, Window
from tests.admission.limiter import STANDING
from tests.admission.room import Bench, client, tenant
from tests.doubles import stream_of

Rooms = Callable[..., Bench]


def test_who_finds_a_free_slot_waits_for_nothing(room: Rooms) -> None:
    """And is told nothing of a queue; its standing is what the keeper of the count said."""
    bench = room(slots=2)
    first, second = bench.guest(), bench.guest(tenant("a", 5))
    assert first.goes_in
    assert second.goes_in
    assert not first.permit.waits
    assert second.permit.standing == STANDING
    assert first.told == second.told == []
    assert bench.metrics.of("queue_left") == []


def test_a_freed_slot_is_given_at_once_to_who_came_first(room: Rooms) -> None:
    """In the order in which they came, without a timer."""
    bench = room()
    guests = [bench.guest() for _ in range(4)]
    for at in range(3):
        assert [guest.goes_in for guest in guests] == [True] * (at + 1) + [False] * (3 - at)
        bench.release(guests[at].permit)
    assert guests[3].goes_in
    assert bench.outcomes() == ["granted"] * 3


def test_a_newcomer_does_not_overtake_who_waits_for_the_slot_that_was_just_freed(room: Rooms) -> None:
    """Even in the very turn of the loop in which it was freed."""
    bench = room()
    first, second = bench.guest(), bench.guest()
    bench.call(first.permit.release)
    newcomer = bench.asking()
    bench.loop.turn()
    assert second.goes_in
    assert newcomer.result().waits


def test_nor_does_one_who_wants_other_shared_slots(room: Rooms) -> None:
    """This process's slot is the one that both need."""
    bench = room()
    first, second = bench.guest(tenant("a", 9)), bench.guest(tenant("a", 9))
    bench.call(first.permit.release)
    newcomer = bench.asking(Charge(slots=(tenant("b", 9),)))
    bench.loop.turn()
    assert second.goes_in
    assert newcomer.result().waits


def test_nor_one_who_comes_while_another_that_was_let_in_has_not_sat_down_yet(room: Rooms) -> None:
    """It was sent to the line while that was being asked, and counted when nobody was asked any more."""
    bench = room()
    slots = tenant("a", 1)
    bench.limiter.full.add(slots)
    guest = bench.guest(slots)
    bench.limiter.gate = bench.loop.run(_gate())
    bench.loop.advance(0.25)
    first = bench.asking()
    bench.leave(guest)
    bench.limiter.gate.set()
    while not first.done():
        bench.loop.turn(1)
    assert bench.admit().waits
    bench.loop.turn()
    assert not first.result().waits


def test_unbounded_slots_make_nobody_wait(room: Rooms) -> None:
    """0 is no limit."""
    bench = room(slots=0, max_waiting=0)
    assert not bench.room.bounded
    assert all(bench.guest().goes_in for _ in range(50))


def test_premium_goes_first_but_never_for_ever(room: Rooms) -> None:
    """After four in a row one of standard, and after four of those one of background."""
    bench = room(premium_run=4)
    running = bench.guest()
    for priority in ("background", "standard", "premium"):
        for _ in range(20):
            bench.guest(priority=priority)
    order = ""
    guests = list(bench.room._line)
    for _ in range(30):
        bench.release(running.permit)
        running.permit = next(permit for permit in guests if not permit.waits and not permit.over)
        order += running.permit.priority[0]
    assert order == "pppps" * 4 + "ppppb" + "sssss"[:4] + "b"


def test_a_higher_class_owes_nothing_for_the_time_when_nobody_else_waited(room: Rooms) -> None:
    """Its run begins with the first that it overtakes."""
    bench = room(premium_run=2)
    running = bench.guest()
    guests = [bench.guest(priority="premium") for _ in range(5)]
    for guest in guests[:3]:
        bench.release(running.permit)
        assert guest.goes_in
        running = guest
    late = bench.guest(priority="background")
    for guest in (*guests[3:], late):
        bench.release(running.permit)
        assert guest.goes_in
        running = guest


def test_a_head_whose_tenant_is_full_blocks_nobody_else(room: Rooms) -> None:
    """Others go past it, and it goes in as soon as its own tenant has room."""
    bench = room(slots=3)
    mine = bench.guest(tenant("a", 1))
    head, same = bench.guest(tenant("a", 1)), bench.guest(tenant("a", 1))
    others = [bench.guest(tenant("b", 5)) for _ in range(2)]
    behind = bench.guest(tenant("b", 5))
    assert [head.goes_in, same.goes_in] == [False, False]
    assert all(guest.goes_in for guest in others)
    bench.release(others[0].permit)
    assert behind.goes_in
    bench.release(mine.permit)
    assert head.goes_in
    assert not same.goes_in


def test_a_slot_that_another_process_freed_is_found_within_a_quarter_of_a_second(room: Rooms) -> None:
    """Nobody tells of it, so it is asked for; once for all who want the same, not once for each."""
    bench = room(slots=0)
    slots = tenant("a", 4)
    bench.limiter.full.add(slots)
    guests = [bench.guest(slots) for _ in range(20)]
    bench.limiter.taken.clear()
    bench.loop.advance(1.0, step_s=0.25)
    assert len(bench.limiter.taken) == 4
    bench.limiter.full.clear()
    bench.loop.advance(0.25)
    assert [guest.goes_in for guest in guests] == [True] * 4 + [False] * 16


def test_nothing_is_asked_while_nobody_waits_or_this_process_has_no_slot(room: Rooms) -> None:
    """An idle room has no timers, and a full one needs no answers."""
    bench = room(slots=1)
    first, second = bench.guest(tenant("a", 9)), bench.guest(tenant("a", 9))
    bench.loop.advance(5.0, step_s=0.25)
    assert bench.limiter.taken == []
    bench.leave(second)
    bench.leave(first)
    bench.loop.advance(1.0, step_s=0.25)
    assert bench.room._turns._timer is None


def test_patience_ends_as_queue_timeout_with_when_to_come_again(room: Rooms) -> None:
    """After so many seconds, and the place is another's."""
    bench = room(patience_s=30.0, max_waiting=1)
    bench.guest()
    guest = bench.guest()
    bench.loop.advance(29.9)
    assert not guest.task.done()
    bench.loop.advance(0.2)
    error = guest.task.exception()
    assert isinstance(error, GatewayError)
    assert (error.code, error.status, error.retry_after_s, error.retryable) == (Code.QUEUE_TIMEOUT, 503, 10, True)
    assert guest.permit.waits
    bench.release(guest.permit)
    assert bench.outcomes() == ["timeout"]
    assert bench.guest().permit.waits


def test_patience_that_ends_before_anybody_waits_ends_the_stream_all_the_same(room: Rooms) -> None:
    """The store may take its time to keep a stream."""
    bench = room(patience_s=1.0)
    bench.guest()
    permit = bench.admit()
    bench.loop.advance(2.0)
    assert permit.waits
    with pytest.raises(GatewayError, match="QUEUE_TIMEOUT"):
        bench.loop.run(permit.turn(stream_of()))


def test_a_full_room_refuses_before_anything_is_counted(room: Rooms) -> None:
    """With the time that it will take: mean life, times places ahead, by slots."""
    bench = room(slots=2, max_waiting=3)
    for _ in range(5):
        bench.guest()
    bench.limiter.charged.clear()
    with pytest.raises(GatewayError, match="QUEUE_FULL") as caught:
        bench.admit()
    assert (caught.value.status, caught.value.retry_after_s) == (503, 20)
    assert bench.limiter.charged == []
    assert bench.outcomes() == ["full"]


def test_a_full_room_still_lets_in_who_need_not_wait(room: Rooms) -> None:
    """One tenant's waiting is not another's; but where its own are full there is no place to wait."""
    bench = room(slots=0, max_waiting=2)
    everybody = Slots("global", "*", 9, True)
    for _ in range(3):
        bench.guest(everybody, tenant("a", 1))
    assert bench.guest(everybody, tenant("b", 1)).goes_in
    for name in ("a", "b"):
        with pytest.raises(GatewayError, match="QUEUE_FULL"):
            bench.admit(Charge(slots=(everybody, tenant(name, 1))))


def test_places_are_kept_for_those_who_are_still_being_counted(room: Rooms) -> None:
    """However many ask at once, no more wait than there are places."""
    bench = room(slots=1, max_waiting=2)
    bench.guest()
    asking = [bench.asking() for _ in range(5)]
    bench.loop.turn()
    assert [task.exception() is None for task in asking] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (Window("ip", "x", 30, 60.0), Code.RATE_LIMITED),
        (Slots("client", "x", 2, False), Code.TOO_MANY_STREAMS),
        (Budget("tenant", "x", 100), Code.BUDGET_EXCEEDED),
    ],
)
def test_what_the_keeper_refuses_is_told_in_its_code(room: Rooms, refused: Window | Slots | Budget, code: Code) -> None:
    """With how the caller stands, and when to come again; nothing stays taken."""
    bench = room()
    bench.limiter.refuse = refused
    with pytest.raises(GatewayError) as caught:
        bench.admit()
    error = caught.value
    assert (error.code, error.status, error.retry_after_s) == (code, 429, 7.0)
    assert error.headers["X-RateLimit-Limit"] == "10"
    assert "RateLimit" in error.headers
    bench.limiter.refuse = None
    assert bench.guest().goes_in


def test_a_client_with_all_its_streams_is_refused_at_once(room: Rooms) -> None:
    """Those that wait are among them: nobody can fill all places."""
    bench = room()
    for _ in range(3):
        bench.guest(client("c", 3))
    with pytest.raises(GatewayError, match="TOO_MANY_STREAMS"):
        bench.admit(Charge(slots=(client("c", 3),)))
    assert bench.guest(client("d", 3)).permit.waits


@pytest.mark.parametrize("taken", [True, False])
def test_cancelled_while_it_is_counted_nothing_stays_taken(room: Rooms, taken: bool) -> None:
    """Neither this process's slot, nor the shared one, nor the place."""
    bench = room(slots=1, max_waiting=1)
    blocker = None if taken else bench.guest()
    bench.limiter.gate = bench.loop.run(_gate())
    asking = bench.asking(Charge(slots=(tenant("a", 1),)))
    bench.loop.turn()
    asking.cancel()
    bench.loop.turn()
    bench.limiter.gate = None
    assert not bench.limiter.running
    guest = bench.guest(tenant("a", 1))
    assert guest.permit.waits != taken
    if blocker is not None:
        bench.leave(blocker)
    assert guest.goes_in


def test_who_leaves_frees_the_place_at_once(room: Rooms) -> None:
    """And those behind it move up; nothing remembers it until its patience would have ended."""
    bench = room(max_waiting=2)
    running = bench.guest()
    first, second = bench.guest(), bench.guest()
    place = first.permit.place
    assert place is not None
    first.task.cancel()
    bench.loop.turn()
    assert place.patience.cancelled()
    assert bench.guest().permit.waits
    bench.loop.advance(1.0, step_s=0.25)
    assert second.positions == [2, 1]
    bench.leave(running)
    assert second.goes_in
    assert bench.outcomes() == ["left", "granted"]


def test_who_leaves_while_it_is_given_a_slot_gives_it_back(room: Rooms) -> None:
    """The answer of the keeper comes too late; the next one gets it."""
    bench = room(slots=1)
    slots = tenant("a", 1)
    running = bench.guest(slots)
    first, second = bench.guest(slots), bench.guest(slots)
    bench.limiter.gate = bench.loop.run(_gate())
    bench.release(running.permit)
    bench.leave(first)
    assert bench.limiter.taken == [first.permit.sid]
    bench.limiter.gate.set()
    bench.loop.turn()
    assert bench.limiter.running == {second.permit.sid}
    assert second.goes_in


def test_who_is_handed_over_while_it_is_given_a_slot_keeps_it_for_who_goes_on(room: Rooms) -> None:
    """It is not renewed from here, and not taken from the other process either."""
    bench = room(slots=0)
    slots = tenant("a", 1)
    running, guest = bench.guest(slots), bench.guest(slots)
    bench.limiter.gate = bench.loop.run(_gate())
    bench.release(running.permit)
    guest.stream.give_up()
    bench.call(guest.task.cancel)
    bench.loop.turn()
    bench.call(guest.permit.hand_over)
    bench.loop.turn()
    bench.limiter.gate.set()
    bench.loop.turn()
    assert bench.limiter.left == [running.permit.sid]
    assert bench.limiter.forgotten == [guest.permit.sid] * 2


def test_who_is_cancelled_in_the_turn_in_which_it_was_granted_keeps_no_slot(room: Rooms) -> None:
    """Its task may never see the grant; giving the permit back does."""
    bench = room()
    running = bench.guest()
    guest, behind = bench.guest(), bench.guest()
    bench.call(running.permit.release)
    bench.loop.turn(1)
    while guest.permit.waits:
        bench.loop.turn(1)
    guest.task.cancel()
    bench.release(guest.permit)
    assert behind.goes_in


def test_giving_back_twice_frees_one_slot_only(room: Rooms) -> None:
    """Idempotent, in whatever order."""
    bench = room(slots=2)
    first = bench.guest()
    bench.guest()
    waiting = [bench.guest(), bench.guest()]
    bench.call(first.permit.release)
    bench.call(first.permit.release)
    bench.call(first.permit.hand_over)
    bench.loop.turn()
    assert [guest.goes_in for guest in waiting] == [True, False]
    assert bench.limiter.left == [first.permit.sid]
    assert bench.limiter.forgotten == []


def test_what_is_handed_over_keeps_its_shared_slots_and_frees_this_process_s(room: Rooms) -> None:
    """Another process renews them from now on."""
    bench = room()
    running, waiting = bench.guest(tenant("a", 5)), bench.guest(tenant("a", 5))
    bench.call(running.permit.hand_over)
    bench.loop.turn()
    assert bench.limiter.forgotten == [running.permit.sid]
    assert bench.limiter.left == []
    assert waiting.goes_in


def test_who_waits_and_is_handed_over_is_counted_as_that(room: Rooms) -> None:
    """It has not left: it waits on elsewhere."""
    bench = room()
    bench.guest()
    waiting = bench.guest(tenant("a", 5))
    waiting.stream.give_up()
    waiting.task.cancel()
    bench.loop.turn()
    bench.call(waiting.permit.hand_over)
    bench.loop.turn()
    assert bench.outcomes() == ["handed_over"]
    assert bench.limiter.forgotten == [waiting.permit.sid]


def test_a_fault_of_the_keeper_costs_nobody_the_place(room: Rooms) -> None:
    """It is asked again, and the order is what it was."""
    bench = room(slots=0)
    slots = tenant("a", 1)
    running = bench.guest(slots)
    first, second = bench.guest(slots), bench.guest(slots)
    bench.limiter.fails = RuntimeError("broken")
    bench.release(running.permit)
    bench.loop.advance(1.0, step_s=0.25)
    assert not first.task.done()
    bench.limiter.fails = None
    bench.loop.advance(0.25)
    assert first.goes_in
    assert not second.task.done()


async def _gate() -> "asyncio.Event":
    return asyncio.Event()


def many(bench: Bench, name: str) -> int:
    """How many of a tenant's may wait, until one is refused."""
    before = len(bench.room._line)
    with contextlib.suppress(GatewayError):
        for _ in range(100):
            bench.admit(of=name)
    assert bench.outcomes()[-1] == "full"
    return len(bench.room._line) - before


@pytest.mark.parametrize(("places", "shares"), [(1, [1, 0]), (2, [1, 1, 0]), (5, [3, 1, 1, 0]), (12, [6, 3, 2, 1, 0])])
def test_no_tenant_takes_all_places_from_the_others(room: Rooms, places: int, shares: list[int]) -> None:
    """Each leaves as many as it has; so that there is one for who has none, as long as there is any."""
    bench = room(slots=1, max_waiting=places, tenants=lambda: 9)
    bench.admit()
    assert [many(bench, f"tenant {number}") for number in range(len(shares))] == shares


def test_a_tenant_that_is_alone_has_the_room_for_itself(room: Rooms) -> None:
    """There is nobody to leave places for."""
    bench = room(slots=1, max_waiting=5)
    bench.admit(of="a")
    assert many(bench, "a") == 5


def test_places_that_are_promised_are_the_tenant_s_too(room: Rooms) -> None:
    """However many come at once; and those who have left leave their places."""
    bench = room(slots=1, max_waiting=6, tenants=lambda: 2)
    held = bench.admit()
    bench.limiter.gate = bench.loop.run(_gate())
    asking = [bench.asking(of="a") for _ in range(6)]
    bench.loop.turn()
    bench.limiter.gate.set()
    while not all(task.done() for task in asking):
        bench.loop.turn(1)
    waiting = [task.result() for task in asking if task.exception() is None]
    assert len(waiting) == 3
    for permit in waiting:
        bench.release(permit)
    assert many(bench, "b") == 3
    bench.release(held)
