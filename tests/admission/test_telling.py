"""What a waiting stream is told of its place, and what becomes of a queue whose process died."""

from collections.abc import Callable

from gateway.admission.estimate import Lives
from gateway.admission.permit import HeldPermit
from gateway.events import Status, Text
from gateway.limits import Charge
from gateway.streams.stream import Stream
from tests.admission.room import Bench, client, tenant
from tests.doubles import stream_of

Rooms = Callable[..., Bench]
QUEUED = Status("queued", "", {"position": 2, "estimated_s": 9})
COMING = Status("queued", "", {"position": 0, "estimated_s": 0})


def test_it_is_told_at_the_beginning_and_when_its_turn_has_come(room: Rooms) -> None:
    """Position and estimate, in events of the log that are no content."""
    bench = room()
    running = bench.guest()
    guest = bench.guest()
    assert guest.told == [(1, 10)]
    assert not guest.stream.begun
    bench.release(running.permit)
    assert guest.told == [(1, 10), (0, 0)]


def test_a_place_that_does_not_change_is_told_once(room: Rooms) -> None:
    """However long it lasts: a log is no clock."""
    bench = room()
    bench.guest()
    guest = bench.guest()
    bench.loop.advance(20.0, step_s=0.25)
    assert guest.positions == [1]


def test_changes_are_told_at_most_once_a_second(room: Rooms) -> None:
    """The newest place then, not each one in between."""
    bench = room()
    bench.guest()
    guests = [bench.guest() for _ in range(6)]
    for guest in guests[:4]:
        bench.leave(guest)
        bench.loop.advance(0.25)
    bench.loop.advance(3.0, step_s=0.25)
    assert guests[4].positions == [5, 1]
    assert guests[5].positions == [6, 2]


def test_a_higher_class_that_comes_later_pushes_the_others_back(room: Rooms) -> None:
    """A position is the truth, also where it grows."""
    bench = room()
    bench.guest()
    guest = bench.guest()
    bench.guest(priority="premium")
    bench.loop.advance(1.0, step_s=0.25)
    assert guest.positions == [1, 2]


def test_a_stream_that_is_over_is_told_nothing(room: Rooms) -> None:
    """Nor is it counted as late."""
    bench = room()
    bench.guest()
    first, guest = bench.guest(), bench.guest()
    guest.stream.seal("cancelled")
    bench.leave(first)
    bench.loop.advance(2.0, step_s=0.25)
    assert guest.positions == [2]
    assert guest.stream.late_events == 0


def test_a_stream_for_whose_place_there_is_no_memory_fails_alone(room: Rooms) -> None:
    """With the store's own error; the next one is told as ever."""
    bench = room()
    bench.guest()
    permit = bench.admit()
    stream = stream_of()
    stream.on_growth = lambda delta: False
    task = bench.loop.create_task(permit.turn(stream))
    other = bench.guest()
    assert "STORE_FULL" in str(task.exception())
    bench.loop.advance(1.0, step_s=0.25)
    assert other.positions[-1] == 1


def test_the_estimate_follows_how_long_streams_have_lived_of_late() -> None:
    """Places ahead times the mean life, by the fewest slots that are shared; whole seconds, 1 to 300."""
    lives = Lives(4)
    assert lives.estimate_s(2, ()) == 5
    for _ in range(100):
        lives.note(40.0)
    assert [lives.estimate_s(at, ()) for at in (1, 4, 30, 1000)] == [10, 40, 300, 300]
    assert lives.estimate_s(1, (tenant("a", 2), tenant("b", 9))) == 20
    for _ in range(200):
        lives.note(0.01)
    assert lives.estimate_s(1, ()) == 1


def test_lives_are_measured_from_the_grant_to_the_end(room: Rooms) -> None:
    """The time in line is none of a stream's life, and one that another process goes on with has not ended."""
    bench = room()
    running, waiting = bench.guest(), bench.guest()
    bench.loop.advance(20.0)
    bench.call(running.permit.hand_over)
    bench.loop.turn()
    bench.loop.advance(5.0)
    assert bench.room._turns.lives.estimate_s(1, ()) == 10
    bench.release(waiting.permit)
    assert bench.room._turns.lives.estimate_s(2, ()) == 19


# Taken over.


def adopt(bench: Bench, stream: Stream, *, limit: int = 1) -> HeldPermit:
    """A permit for a stream of another process, of a tenant with so many slots."""
    charge = Charge(slots=(tenant("a", limit), client("c", 1)))

    async def adopted() -> HeldPermit:
        return bench.room.adopt(stream, charge, "standard", "key")

    return bench.loop.run(adopted())


def test_a_stream_that_was_being_made_keeps_its_slots_whatever_the_count(room: Rooms) -> None:
    """This process has one more than it may then, and gives none until it has fewer."""
    bench = room(slots=1)
    running = bench.guest()
    permit = adopt(bench, stream_of(Text("a")))
    assert not permit.waits
    assert bench.limiter.adopted[0][1] == (tenant("a", 1), client("c", 1))
    waiting = bench.guest()
    bench.release(running.permit)
    assert not waiting.task.done()
    bench.call(permit.release)
    bench.loop.turn()
    assert waiting.goes_in


def test_a_stream_that_waited_waits_on_before_the_others(room: Rooms) -> None:
    """It came before them, wherever that was; though the room be full."""
    bench = room(slots=1, max_waiting=1)
    running, other = bench.guest(), bench.guest()
    stream = stream_of(QUEUED)
    permit = adopt(bench, stream)
    assert permit.waits
    assert bench.limiter.adopted == [(stream.sid, (client("c", 1),))]
    task = bench.loop.create_task(permit.turn(stream))
    bench.release(running.permit)
    assert task.done()
    assert not other.task.done()


def test_a_stream_whose_turn_had_come_does_not_wait_again(room: Rooms) -> None:
    """Its log says so, by position 0 or by an answer that has begun."""
    bench = room(slots=1)
    bench.guest()
    for events in ((QUEUED, COMING), (QUEUED, Text("a")), ()):
        assert not adopt(bench, stream_of(*events)).waits
