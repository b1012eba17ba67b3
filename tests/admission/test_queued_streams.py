"""Queued streams: open, read, cancelled, left and drained before anything was made of them."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from gateway.delivery.http import refuse_ended
from gateway.errors import Code, GatewayError
from gateway.events import Completed, Failed, Text
from gateway.hub import Hub, Key, Opening
from gateway.limits import Charge
from gateway.pipeline import Pipeline
from gateway.request import OnDisconnect
from gateway.stores.memory import MemoryStore
from gateway.streams.stream import DEFAULT_BOUNDS, State, Stream
from tests.admission.room import NOTHING, Bench, tenant
from tests.bench import ENDLESS, WHOLE, ending
from tests.doubles import ALICE, ScriptedSource, Step, question


class Desk(Bench):
    """A room, and a hub whose streams are given leave by it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        store = MemoryStore(max_bytes=1 << 20, retention_s=600, clock=self.loop.clock)
        self.hub = Hub(store, bounds=DEFAULT_BOUNDS, max_streams=100, metrics=self.metrics)
        self.sources: list[ScriptedSource] = []

    def open(self, *script: Step, key: str | None = None, charge: Charge = NOTHING, **asked: Any) -> Opening:
        """Open a stream that plays `script`, endless where there is none."""
        source = ScriptedSource(*(script or ENDLESS))
        self.sources.append(source)
        request = question(**asked)
        opening = self.hub.open(
            request,
            ALICE,
            Pipeline(source, metrics=self.metrics),
            dialect="native",
            key=Key(key, request.fingerprint()) if key else None,
            admit=partial(self.room.admit, charge=charge, priority="standard"),
        )
        return self.loop.run(opening)

    def stream(self, *script: Step, **asked: Any) -> Stream:
        """The same, and let it come to its place."""
        stream = self.open(*script, **asked).stream
        self.loop.turn()
        return stream

    def cancel(self, stream: Stream) -> None:
        """Somebody cancels it."""
        self.loop.run(self.hub.cancel(stream.sid, ALICE))
        self.loop.turn()

    @contextlib.contextmanager
    def read(self, stream: Stream) -> Iterator[None]:
        """Somebody reads it while inside."""
        self.loop.call_soon((reading := self.hub.reading(stream)).__enter__)
        self.loop.turn()
        yield
        self.loop.call_soon(reading.__exit__, None, None, None)
        self.loop.turn()

    @property
    def calls(self) -> list[int]:
        """How often each source was called."""
        return [source.calls for source in self.sources]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """One slot in all; nothing is held behind a test."""
    desk = Desk()
    yield desk
    desk.loop.run(desk.hub.drain(0))
    desk.loop.turn()
    assert desk.hub.running == 0
    assert not desk.limiter.running
    assert not desk.room._turns._held
    desk.close()


def test_a_queued_stream_is_open_and_its_upstream_is_not_called(desk: Desk) -> None:
    """Until its turn comes; then it runs as any other."""
    running = desk.stream()
    queued = desk.stream(*WHOLE)
    desk.loop.advance(10.0, step_s=0.25)
    assert desk.calls == [1, 0]
    assert not queued.begun
    desk.cancel(running)
    assert queued.state is State.COMPLETED
    assert queued.text() == "ab"


@pytest.mark.parametrize("policy", [OnDisconnect.CANCEL, OnDisconnect.GRACE])
def test_whose_last_reader_leaves_the_queue_frees_its_place_at_once(desk: Desk, policy: OnDisconnect) -> None:
    """No grace: there is nothing to come back to, and its upstream is never called."""
    running, queued, behind = desk.stream(), desk.stream(on_disconnect=policy), desk.stream()
    with desk.read(queued), desk.read(queued):
        assert not queued.ended
    assert ending(queued) == ("cancelled", "orphaned")
    desk.cancel(running)
    assert behind.content_events
    assert desk.calls == [1, 0, 1]


def test_a_detached_stream_waits_on_unread(desk: Desk) -> None:
    """Nobody was to wait for it."""
    running, queued = desk.stream(), desk.stream(*WHOLE, on_disconnect=OnDisconnect.DETACH)
    with desk.read(queued):
        pass
    desk.cancel(running)
    assert queued.state is State.COMPLETED


def test_grace_begins_when_the_turn_has_come(desk: Desk) -> None:
    """A stream that was queued once is a stream like others."""
    running, queued = desk.stream(), desk.stream(grace_s=30.0)
    with desk.read(queued):
        desk.cancel(running)
        assert queued.content_events
    assert not queued.ended
    desk.loop.advance(31.0)
    assert ending(queued) == ("cancelled", "orphaned")


def test_a_queued_stream_can_be_cancelled(desk: Desk) -> None:
    """As any other, and frees its place."""
    running, queued, behind = desk.stream(), desk.stream(), desk.stream()
    desk.cancel(queued)
    assert ending(queued) == ("cancelled", "cancelled")
    desk.cancel(running)
    assert behind.content_events
    assert desk.calls == [1, 0, 1]


def test_a_queued_stream_that_is_read_is_not_superseded(desk: Desk) -> None:
    """By a new question of its own session, as from a second tab."""
    desk.stream()
    queued = desk.stream(session_id="s1")
    with desk.read(queued):
        desk.stream(session_id="s1")
        assert not queued.ended


def test_impatience_ends_it_as_a_retryable_error_and_frees_its_key(desk: Desk) -> None:
    """Its client may ask the same again, and is answered."""
    running = desk.stream()
    queued = desk.stream(key="k")
    desk.loop.advance(30.1, step_s=0.25)
    end = queued.terminal
    assert isinstance(end, Failed)
    assert (end.code, end.status, end.retryable, end.retry_after_s) == ("QUEUE_TIMEOUT", 503, True, 10)
    assert desk.calls == [1, 0]
    desk.cancel(running)
    again = desk.open(*WHOLE, key="k")
    assert again.fresh
    desk.loop.turn()
    assert again.stream.state is State.COMPLETED


def test_before_any_answer_impatience_is_a_503_that_may_be_asked_again(desk: Desk) -> None:
    """Nothing was generated: client libraries should retry, after the time that is told."""
    desk.stream()
    queued = desk.stream()
    desk.loop.advance(30.1)
    with pytest.raises(GatewayError) as caught:
        refuse_ended(queued)
    error = caught.value
    assert (error.code, error.status, error.retry_after_s) == (Code.QUEUE_TIMEOUT, 503, 10)
    assert not error.ended_a_stream


def test_a_full_room_opens_no_stream_and_frees_the_key() -> None:
    """Nothing is kept of the question."""
    desk = Desk(max_waiting=1)
    running, queued = desk.stream(), desk.stream()
    with pytest.raises(GatewayError, match="QUEUE_FULL"):
        desk.open(key="k")
    assert desk.hub.running == 2
    desk.cancel(queued)
    desk.cancel(running)
    assert desk.open(key="k").fresh
    desk.loop.run(desk.hub.drain(0))
    desk.close()


def test_the_same_key_finds_the_queued_stream_and_takes_no_second_place(desk: Desk) -> None:
    """Attaching is free."""
    desk.stream()
    first = desk.open(key="k")
    second = desk.open(key="k")
    assert second.stream is first.stream
    assert len(desk.room._line) == 1


def test_a_failed_stream_gives_its_shared_slots_back(desk: Desk) -> None:
    """However it ends."""
    charge = Charge(slots=(tenant("a", 1),))
    failed = desk.stream(RuntimeError("broken"), charge=charge)
    assert failed.ended
    assert desk.limiter.left == [failed.sid]
    assert desk.stream(*WHOLE, charge=charge).state is State.COMPLETED


def test_ended_for_a_reason_it_says_so_without_having_run(desk: Desk) -> None:
    """As when a credential is revoked while its stream waits."""
    desk.stream()
    queued = desk.stream()
    desk.hub.fail_where(lambda stream, permit: stream is queued, GatewayError(Code.UNAUTHENTICATED))
    desk.loop.turn()
    assert isinstance(queued.terminal, Failed)
    assert queued.terminal.code == "UNAUTHENTICATED"
    assert desk.calls == [1, 0]


# Going away.


def test_while_a_process_drains_its_queue_goes_on(desk: Desk) -> None:
    """Slots become free, and nobody new comes for them."""
    desk.stream([Text("a")], 5.0, WHOLE[1])
    queued = desk.stream(*WHOLE)
    desk.loop.run(desk.hub.run_down(10.0))
    assert queued.state is State.COMPLETED


def test_who_still_waits_at_the_end_of_the_drain_is_told_to_ask_elsewhere(desk: Desk) -> None:
    """Cancelled as `draining`; to a client whose headers were held, 503 DRAINING. Its upstream is never called."""
    desk.stream()
    queued = desk.stream()
    desk.loop.run(desk.hub.drain(1.0))
    assert ending(queued) == ("cancelled", "draining")
    with pytest.raises(GatewayError) as caught:
        refuse_ended(queued)
    assert (caught.value.code, caught.value.ended_a_stream) == (Code.DRAINING, False)
    assert desk.calls == [1, 0]


def test_a_viewer_whom_the_drain_sent_away_does_not_lose_its_place(desk: Desk) -> None:
    """It is on its way back, here or to the process that goes on; within the grace."""
    desk.stream()
    queued = desk.stream(grace_s=5.0)
    desk.hub.draining = True
    with desk.read(queued):
        pass
    assert not queued.ended
    desk.loop.advance(6.0)
    assert ending(queued) == ("cancelled", "orphaned")


def test_what_is_handed_over_waits_on_elsewhere_but_for_who_would_not_come_back(desk: Desk) -> None:
    """A client that cancels by leaving is told at once to ask again; of the others nothing is said any more."""
    running, graceful = desk.stream(), desk.stream()
    leaving = desk.stream(on_disconnect=OnDisconnect.CANCEL)
    desk.hub.hold_all()
    desk.loop.turn()
    assert isinstance(leaving.terminal, Completed)
    assert ending(leaving) == ("cancelled", "draining")
    desk.loop.run(desk.hub.let_go_all())
    assert [stream.ended for stream in (running, graceful)] == [False, False]
    assert desk.limiter.forgotten == [running.sid, graceful.sid]
    assert desk.limiter.left == [leaving.sid]
    assert desk.calls == [1, 0, 0]
    assert sorted(desk.outcomes()) == ["handed_over", "left"]
