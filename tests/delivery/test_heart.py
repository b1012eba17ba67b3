"""One timer for all: beats after silence only, rotation at age, a spread of the times to come back."""

import orjson

from gateway.delivery.connection import Ending
from gateway.delivery.heart import TICKS_PER_BEAT, Heart
from gateway.events import Event, Text
from gateway.sse import HEARTBEAT
from gateway.telemetry.metrics import Metrics
from tests.delivery.bench import OPENAI, Bench
from tests.doubles import END


def test_silence_is_broken_every_fifteen_seconds(bench: Bench) -> None:
    """By a comment, for readers of every dialect; not before, and then again and again."""
    readers = [bench.read(), bench.read(OPENAI)]
    bench.loop.advance(14, step_s=1)
    assert [reader.sink.beats for reader in readers] == [0, 0]
    bench.loop.advance(2, step_s=1)
    assert [reader.sink.beats for reader in readers] == [1, 1]
    bench.loop.advance(60, step_s=1)
    assert [reader.sink.beats for reader in readers] == [5, 5]
    assert readers[0].sink.arrived.endswith(HEARTBEAT)
    assert sum(count for (count,) in bench.metrics.of("heartbeats")) == 10
    bench.append(Text("a"))
    assert readers[0].text == "a"


def test_who_is_written_to_needs_no_beat(bench: Bench) -> None:
    """However long; and silence counts from the last write."""
    reader = bench.read()
    for n in range(10):
        bench.loop.advance(10, step_s=1)
        bench.append(Text(f"{n}"))
    assert reader.sink.beats == 0
    bench.loop.advance(14, step_s=1)
    assert reader.sink.beats == 0
    bench.loop.advance(2, step_s=1)
    assert reader.sink.beats == 1


def test_a_beat_is_never_put_onto_what_waits(bench: Bench) -> None:
    """A client that lags gets none, however silent it is; when it has caught up they begin again."""
    reader = bench.read()
    reader.congest()
    bench.append(Text("a"))
    bench.append(Text("b"))
    bench.loop.advance(40, step_s=1)
    assert reader.sink.beats == 0
    reader.take()
    bench.loop.advance(2, step_s=1)
    assert reader.sink.beats == 0, "catching up was a write"
    bench.loop.advance(15, step_s=1)
    assert reader.sink.beats == 1


def test_a_client_that_has_gone_is_noticed_by_the_beat(bench: Bench) -> None:
    """At the latest; the others get theirs."""
    gone, other = bench.read(), bench.read()
    gone.sink.leave()
    bench.loop.advance(16, step_s=1)
    assert gone.ending() is Ending.GONE
    assert other.sink.beats == 1


def test_a_reader_is_rotated_at_its_age(bench: Bench) -> None:
    """One that comes back; `status` and `close` say so, and the next one has the rest."""
    end = bench.loop.time() + 100
    young = bench.read(comes_back=True, rotate_at=end)
    faithful = bench.read(rotate_at=end)
    bench.loop.advance(90, step_s=1)
    bench.append(Text("a"))
    assert young.ending() is None
    bench.loop.advance(30, step_s=1)
    assert young.ending() is Ending.SENT_AWAY
    assert orjson.loads(young.last.data)["reason"] == "rotate"
    assert young.text == "a"
    assert faithful.ending() is None


def test_no_reader_is_rotated_in_the_last_seconds_of_an_answer(bench: Bench) -> None:
    """Once the text has ended the rest is short: coming back would cost more."""
    reader = bench.read(comes_back=True, rotate_at=bench.loop.time() + 10)
    bench.append(END)
    bench.loop.advance(120, step_s=1)
    assert reader.ending() is None


def test_writing_costs_no_look(bench: Bench) -> None:
    """A connection is looked at about once per beat, not once per second and not once per write."""
    reader = bench.read()
    looks = 0
    pulse = reader.connection.pulse

    def counted(tick: int, now: float) -> int:
        nonlocal looks
        looks += 1
        return pulse(tick, now)

    reader.connection.pulse = counted  # type: ignore[method-assign]  # to count, not to change
    for _ in range(600):
        bench.append(Text("x"))
        bench.loop.advance(0.5)
    assert looks <= 300 / 15 + 1


class Beating:
    """What the heart looks after, and when it was looked at."""

    def __init__(self, again: int = TICKS_PER_BEAT) -> None:
        self.again = again
        self.pulses: list[int] = []
        self.sent: list[int] = []
        self.told: list[Event] = []

    def pulse(self, tick: int, now: float) -> int:
        self.pulses.append(tick)
        return tick + self.again

    def tell(self, event: Event) -> None:
        self.told.append(event)

    def send_away(self, reason: str, retry_ms: int) -> None:
        self.sent.append(retry_ms)


def test_each_is_looked_at_when_it_asked_to_be(bench: Bench) -> None:
    """At the earliest with the next tick; not at all once it is removed."""
    heart = bench.heart
    often, seldom, hasty, removed = Beating(1), Beating(30), Beating(-5), Beating()
    for beating in (often, seldom, hasty, removed):
        heart.add(beating)
    heart.remove(removed)
    heart.remove(removed)
    bench.loop.advance(46, step_s=1)
    assert seldom.pulses == [15, 45]
    assert often.pulses == hasty.pulses == list(range(15, heart.tick + 1))
    assert removed.pulses == []
    assert len(heart) == 3
    for beating in (often, seldom, hasty):
        heart.remove(beating)


def test_those_who_are_sent_away_come_back_one_by_one() -> None:
    """The times are spread over the whole range and stay in it."""
    heart = Heart(heartbeat_s=15, retry_min_ms=1000, retry_max_ms=3000, metrics=Metrics())
    crowd = [Beating() for _ in range(500)]
    for beating in crowd:
        heart.add(beating)
    heart.send_away_all("draining")
    times = [beating.sent[0] for beating in crowd]
    assert all(1000 <= ms <= 3000 for ms in times)
    assert min(times) < 1200
    assert max(times) > 2800


def test_a_heart_that_has_stopped_beats_no_more(bench: Bench) -> None:
    """And stopping twice, or before it began, is no fault."""
    reader = bench.read()
    bench.heart.stop()
    bench.loop.advance(60, step_s=1)
    assert reader.sink.beats == 0
    bench.heart.stop()
    Heart(heartbeat_s=15, retry_min_ms=1, retry_max_ms=2, metrics=Metrics()).stop()
