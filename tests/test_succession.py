"""Succession: what becomes of streams whose process is gone, and of our own when they are somebody else's."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import pytest

from gateway.admission.permit import FREE, Permit
from gateway.errors import Code, GatewayError
from gateway.events import NOT_DURABLE, SUPERSEDED, Completed, Event, Failed, Opened, Status, Text
from gateway.hub import Hub
from gateway.pipeline import Pipeline
from gateway.request import OnDisconnect, StreamRequest
from gateway.streams.lineage import EXACT, FIRST_EPOCH, Lineage
from gateway.streams.stream import DEFAULT_BOUNDS, State, Stream
from gateway.succession import AWAITED_S, Succession
from gateway.telemetry.metrics import Account
from tests.doubles import (
    ALICE,
    DONE,
    END,
    HANG,
    ManualLoop,
    RecordingMetrics,
    RecordingReader,
    ScriptedSource,
    Step,
    question,
)
from tests.shared_store import ScriptedStore, continued

T = TypeVar("T")

ANSWER = (Text("a"), Text("b"), Text("c"), END)


class ExactSource(ScriptedSource):
    """Says the same every time."""

    exact = True


class Process:
    """A hub, its succession and a scripted store; time by hand."""

    def __init__(self, max_streams: int = 100, adopt: Callable[[Stream], Permit] = lambda stream: FREE) -> None:
        self.loop = ManualLoop()
        self.metrics = RecordingMetrics()
        self.store = ScriptedStore()
        self.hub = Hub(self.store, bounds=DEFAULT_BOUNDS, max_streams=max_streams, metrics=self.metrics)
        self.sources: list[ScriptedSource] = []
        self.script: tuple[Step, ...] = ([*ANSWER],)
        self.exact = True
        self.serves = True
        self.told: list[Event] = []
        self.succession = Succession(
            self.hub,
            self.store,
            revive=self.revive,
            tell_readers=self.told.append,
            metrics=self.metrics,
            adopt=adopt,
        )
        self.hub.share(self.store, self.succession)

    def revive(self, request: StreamRequest) -> Pipeline:
        """The pipeline that goes on."""
        if not self.serves:
            raise GatewayError(Code.INVALID_REQUEST)
        source = (ExactSource if self.exact else ScriptedSource)(*self.script)
        self.sources.append(source)
        return Pipeline(source, metrics=self.metrics)

    def orphan(self, *events: Event, lineage: Lineage = EXACT, **asked: Any) -> Stream:
        """A stream of a process that is dead."""
        stream = self.store.mirror(*events, lineage=lineage, **asked)
        self.store.dead.add(stream.sid)
        return stream

    def open(self, *script: Step, **asked: Any) -> Stream:
        """A stream of our own, which has begun."""
        source = ScriptedSource(*(script or ([Text("a")], HANG)))
        self.sources.append(source)
        opening = self.hub.open(question(**asked), ALICE, Pipeline(source, metrics=self.metrics), dialect="native")
        stream = self.loop.run(opening).stream
        self.loop.turn()
        return stream

    def call(self, act: Callable[[], T]) -> T:
        """Do it in a callback of the loop."""

        async def acting() -> T:
            return act()

        return self.loop.run(acting())

    @contextmanager
    def reading(self, stream: Stream) -> Iterator[None]:
        """Somebody reads `stream` while inside."""
        reading = self.hub.reading(stream)
        self.call(reading.__enter__)
        yield
        self.call(lambda: reading.__exit__(None, None, None))

    def told_of_readers(self, stream: Stream, where: str, *, reading: bool) -> None:
        """As another process leaves a message."""
        self.call(lambda: self.succession.told_of_readers(stream.sid, where, reading=reading))

    def find(self, stream: Stream) -> Stream:
        """As its owner does."""
        return self.loop.run(self.hub.find(stream.sid, ALICE))

    def bereft(self, stream: Stream, *, read_here: bool = False) -> None:
        """As the sweeper does."""
        self.loop.run(self.succession.bereft(stream.sid, read_here=read_here))
        self.loop.turn()

    def end_of(self, stream: Stream) -> Stream:
        """The stream that is kept of that name now, once it has ended."""
        self.loop.turn(10)
        kept = self.store.memory.kept(stream.sid)
        assert kept is not None
        assert kept.ended
        return kept

    @property
    def takeovers(self) -> list[str]:
        """Results of the takeovers, in order."""
        return [result for result, _ in self.metrics.of("taken_over")]

    @property
    def accounts(self) -> list[Account]:
        """All that were given."""
        return [account for (account,) in self.metrics.of("stream_ended")]


@pytest.fixture
def process() -> Iterator[Process]:
    """Nothing runs on behind a test."""
    process = Process()
    yield process
    process.succession.close()
    process.loop.run(process.hub.drain(0))
    process.loop.close()


def unwelcome(_stream: Stream) -> Permit:
    """Says that it may not go on."""
    raise GatewayError(Code.UNAUTHENTICATED)


@contextmanager
def full(process: Process) -> Iterator[None]:
    """No more streams are taken inside."""
    process.hub.draining = True
    yield
    process.hub.draining = False


def failure(stream: Stream) -> str:
    """The code of a stream that failed."""
    assert isinstance(stream.terminal, Failed)
    return stream.terminal.code


# For clients.


def test_a_client_that_comes_back_finds_its_answer_gone_on_with(process: Process) -> None:
    """All of it, each word once, in the next epoch; counted as continued."""
    stream = process.orphan(Text("a"))
    heir = process.find(stream)
    assert (heir.epoch, heir.mirrored) == (2, False)
    heir = process.end_of(stream)
    assert heir.text() == "abc"
    assert heir.events()[:4] == [Opened("m"), Text("a"), Status("continued"), Text("b")]
    assert isinstance(heir.terminal, Completed)
    assert process.takeovers == ["continued"]
    assert [account.outcome for account in process.accounts] == ["ok"]


def test_a_stream_whose_process_lives_is_left_to_it(process: Process) -> None:
    """It is read here and made there."""
    stream = process.store.mirror(Text("a"))
    assert process.find(stream) is stream
    assert process.store.said("claim") == []


def test_an_ended_stream_needs_nobody(process: Process) -> None:
    """Whatever became of its process."""
    stream = process.orphan(*ANSWER, DONE)
    assert process.find(stream) is stream
    assert process.store.said("claim") == []


@pytest.mark.parametrize("waiting", [True, False])
def test_of_many_callers_one_takes_a_stream_over(process: Process, waiting: bool) -> None:
    """All of them get what it made; there is one claim, one source and one account."""
    stream = process.orphan(Text("a"))
    process.store.claims = asyncio.Event()

    async def race() -> list[Stream]:
        calls = [asyncio.create_task(process.hub.find(stream.sid, ALICE)) for _ in range(5)]
        calls += [asyncio.create_task(process.succession.rescue(stream)) for _ in range(5)]
        bereft = asyncio.create_task(process.succession.bereft(stream.sid, read_here=True))
        await asyncio.sleep(0.01)
        if not waiting:
            calls[0].cancel()
            del calls[0]
        assert process.store.claims is not None
        process.store.claims.set()
        await bereft
        return await asyncio.gather(*calls)

    heirs = process.loop.run(race())
    assert len(set(map(id, heirs))) == 1
    process.end_of(stream)
    assert process.store.said("claim") == [stream.sid]
    assert [source.calls for source in process.sources] == [1]
    assert len(process.accounts) == 1


def test_who_comes_late_to_a_takeover_does_not_repeat_it(process: Process) -> None:
    """Who heard of the death before, and who looks after the streams of the dead: nothing runs twice."""
    process.script = ([Text("a"), Text("b")], HANG)
    stream = process.orphan(Text("a"), on_disconnect=OnDisconnect.DETACH)
    looks = process.store.looks = asyncio.Event()
    late: asyncio.Task[Stream] = process.loop.create_task(process.succession.rescue(stream))
    process.loop.turn()
    process.store.looks = None
    heir = process.find(stream)
    process.loop.turn()
    looks.set()
    process.loop.turn()
    assert late.result() is heir
    process.bereft(stream)
    process.bereft(stream, read_here=True)
    assert [source.calls for source in process.sources] == [1]
    assert heir.text() == "ab"
    assert process.takeovers == ["continued"]


def test_what_somebody_else_goes_on_with_is_left_to_them(process: Process) -> None:
    """The sweeper was told of a dead process, but another one has its stream by now, and lives."""
    stream = process.store.mirror(Text("a"), lineage=EXACT.succeeded(1), on_disconnect=OnDisconnect.DETACH)
    process.bereft(stream)
    process.bereft(stream, read_here=True)
    assert process.store.said("claim") == []
    assert process.sources == []


def test_where_another_process_was_faster_its_copy_is_read(process: Process) -> None:
    """Nothing is made here."""
    stream = process.orphan(Text("a"))
    heir = process.store.faster[stream.sid] = continued(stream)
    heir.mirrored = True
    assert process.find(stream) is heir
    assert process.takeovers == ["raced"]
    assert process.sources == []


def test_a_full_process_takes_nothing_over(process: Process) -> None:
    """It says so before it claims anything: another one may have room."""
    stream = process.orphan(Text("a"))
    with full(process), pytest.raises(GatewayError) as raised:
        process.find(stream)
    assert raised.value.code is Code.DRAINING
    assert process.store.said("claim") == []
    process.find(stream)
    assert process.end_of(stream).text() == "abc"


@pytest.mark.parametrize("serves", [True, False])
def test_what_cannot_go_on_ends_honestly(process: Process, serves: bool) -> None:
    """The source says other words each time, or is not served here: PRODUCER_LOST, and its retention begins."""
    process.exact, process.serves = False, serves
    stream = process.orphan(Text("a"), lineage=FIRST_EPOCH)
    assert process.find(stream).ended
    assert failure(process.end_of(stream)) == "PRODUCER_LOST"
    assert process.takeovers == ["lost"]
    assert process.store.said("settle") == [stream.sid]
    assert process.hub.running == 0


def test_what_nobody_has_heard_is_begun_anew(process: Process) -> None:
    """Whatever the source: no word of it was said."""
    process.exact = False
    stream = process.orphan(lineage=FIRST_EPOCH)
    process.find(stream)
    assert process.end_of(stream).text() == "abc"


def test_a_cancel_reaches_the_process_that_makes_the_stream(process: Process) -> None:
    """One that lives is asked; of one that is dead the stream is taken over, and cancelled here."""
    living, dead = process.store.mirror(Text("a")), process.orphan(Text("a"))
    process.script = ([Text("a")], HANG)
    for stream in (living, dead):
        process.loop.run(process.hub.cancel(stream.sid, ALICE))
    assert process.store.said("ask_to_cancel") == [living.sid]
    end = process.end_of(dead).terminal
    assert isinstance(end, Completed)
    assert end.status == "cancelled"


# Who reads.


@pytest.mark.parametrize(
    ("policy", "grace_s", "ends_after_s"),
    [(OnDisconnect.DETACH, 0.0, None), (OnDisconnect.CANCEL, 0.0, AWAITED_S), (OnDisconnect.GRACE, 30.0, 30.0)],
)
def test_a_stream_taken_over_waits_for_its_reader_as_its_policy_says(
    process: Process, policy: OnDisconnect, grace_s: float, ends_after_s: float | None
) -> None:
    """Its client was cut off and did not leave: even who would be cancelled at once gets the time to come back."""
    process.script = ([Text("a")], HANG)
    stream = process.orphan(Text("a"), on_disconnect=policy, grace_s=grace_s)
    heir = process.find(stream)
    process.loop.turn()
    if ends_after_s is None:
        process.loop.advance(3600)
        assert not heir.ended
        return
    process.loop.advance(ends_after_s - 0.1)
    assert not heir.ended
    process.loop.advance(0.2)
    assert heir.terminal is not None
    assert heir.seal_reason == "orphaned"


def test_a_reader_who_comes_in_time_keeps_it(process: Process) -> None:
    """And one who was there already when it was taken over, too."""
    process.script = ([Text("a")], HANG)
    early, late = (process.orphan(Text("a"), on_disconnect=OnDisconnect.CANCEL, grace_s=0.0) for _ in range(2))
    with process.reading(early):
        heirs = [process.find(stream) for stream in (early, late)]
        with process.reading(heirs[1]):
            process.loop.advance(60, 1)
            assert not any(heir.sealed for heir in heirs)
    process.loop.turn()
    assert all(heir.seal_reason == "orphaned" for heir in heirs)


def test_who_reads_elsewhere_keeps_a_stream_from_being_an_orphan(process: Process) -> None:
    """Until that process says that nobody reads there any more; each process counts."""
    stream = process.open(on_disconnect=OnDisconnect.CANCEL, grace_s=0.0)
    process.told_of_readers(stream, "b", reading=True)
    process.told_of_readers(stream, "c", reading=True)
    with process.reading(stream):
        pass
    process.told_of_readers(stream, "b", reading=False)
    process.loop.turn()
    assert not stream.sealed
    process.told_of_readers(stream, "c", reading=False)
    process.loop.turn()
    assert stream.seal_reason == "orphaned"
    assert stream.ended


def test_the_death_of_those_who_read_elsewhere_makes_an_orphan(process: Process) -> None:
    """Of what they read; not of what is read here too, nor of others."""
    streams = [process.open(on_disconnect=OnDisconnect.CANCEL, grace_s=0.0) for _ in range(3)]
    orphan, read, other = streams
    for stream, where in zip(streams, ("b", "b", "c"), strict=True):
        process.told_of_readers(stream, where, reading=True)
    with process.reading(read):
        process.call(lambda: process.succession.told_of_death("b"))
        process.loop.turn()
        assert [stream.sealed for stream in streams] == [True, False, False]
    assert orphan.seal_reason == "orphaned"
    assert other.sealed is False


def test_who_begins_to_read_elsewhere_saves_an_orphan(process: Process) -> None:
    """Within its grace, as somebody here would."""
    stream = process.open(grace_s=10.0)
    with process.reading(stream):
        pass
    process.loop.advance(9)
    process.told_of_readers(stream, "b", reading=True)
    process.loop.advance(60, 1)
    assert not stream.sealed


def test_a_leaving_that_is_told_twice_cancels_nobody_s_stream(process: Process) -> None:
    """Each begins the grace anew; who comes back within it ends them all."""
    stream = process.open(grace_s=10.0)
    for _ in range(3):
        process.told_of_readers(stream, "b", reading=False)
    with process.reading(stream):
        process.loop.advance(60, 1)
        assert not stream.sealed


def test_those_who_make_a_stream_are_told_of_its_readers_here(process: Process) -> None:
    """Of the first that comes and the last that leaves, not of each; of our own streams nobody is told."""
    stream, own = process.store.mirror(Text("a")), process.open()
    with process.reading(stream), process.reading(own), process.reading(stream):
        assert process.succession.reads(stream.sid)
    assert not process.succession.reads(stream.sid)
    assert [asked for asked in process.store.asked if asked[0] in ("reading", "left")] == [
        ("reading", stream.sid),
        ("left", stream.sid),
    ]


# Streams to which nobody comes back.


def test_an_unread_stream_that_is_to_run_on_is_gone_on_with_at_once(process: Process) -> None:
    """Nobody need ever read it."""
    stream = process.orphan(Text("a"), on_disconnect=OnDisconnect.DETACH, grace_s=0.0)
    process.bereft(stream)
    assert process.end_of(stream).text() == "abc"


@pytest.mark.parametrize(
    ("policy", "grace_s", "wait_s"),
    [
        (OnDisconnect.CANCEL, 0.0, AWAITED_S),
        (OnDisconnect.CANCEL, 30.0, AWAITED_S),
        (OnDisconnect.GRACE, 30.0, 30.0),
        (OnDisconnect.GRACE, 1.0, AWAITED_S),
    ],
)
def test_an_unread_stream_waits_for_its_reader_and_then_ends_honestly(
    process: Process, policy: OnDisconnect, grace_s: float, wait_s: float
) -> None:
    """However often the sweeper comes by, it waits once; the source is not called for nobody."""
    stream = process.orphan(Text("a"), on_disconnect=policy, grace_s=grace_s)
    process.bereft(stream)
    process.loop.advance(wait_s / 2)
    process.bereft(stream)
    process.loop.advance(wait_s / 2 - 0.1)
    assert process.store.said("claim") == []
    process.loop.advance(0.2)
    assert failure(process.end_of(stream)) == "PRODUCER_LOST"
    assert process.sources == []
    assert process.takeovers == ["lost"]


def test_who_comes_back_meanwhile_is_not_waited_for(process: Process) -> None:
    """Here or in another process."""
    here, elsewhere = (process.orphan(Text("a"), grace_s=10.0) for _ in range(2))
    for stream in (here, elsewhere):
        process.bereft(stream)
    process.script = ([Text("a"), Text("b")], HANG)
    heir = process.find(here)
    process.store.dead.discard(elsewhere.sid)
    with process.reading(heir):
        process.loop.advance(60, 1)
        assert not heir.sealed
    assert process.store.said("claim") == [here.sid]


@pytest.mark.parametrize("waited_for", [True, False])
def test_what_is_read_here_is_gone_on_with_whoever_noticed_first(process: Process, waited_for: bool) -> None:
    """Its reader came while the process was going away; the sweep, which does not look for readers, may be faster."""
    stream = process.orphan(Text("a"))
    if waited_for:
        process.bereft(stream)
    with process.reading(stream):
        process.bereft(stream, read_here=waited_for)
        assert process.takeovers == ["continued"]


def test_a_stream_that_lost_its_process_twice_is_waited_for_anew(process: Process) -> None:
    """A deploy ends one process after the other: its reader came back after the first, and is on its way again."""
    stream = process.orphan(Text("a"), grace_s=10.0)
    process.bereft(stream)
    process.store.mirrors[stream.sid] = again = continued(stream)
    again.mirrored = True
    process.loop.advance(60, 1)
    assert process.store.said("claim") == []
    assert not again.ended


def test_a_stream_that_is_gone_is_said_to_be(process: Process) -> None:
    """So that it is struck off the list of what the dead left."""
    with pytest.raises(GatewayError) as raised:
        process.loop.run(process.succession.bereft("0" * 22, read_here=False))
    assert raised.value.code is Code.STREAM_NOT_FOUND


# Told of our own.


def test_a_cancel_from_elsewhere_ends_a_stream_of_ours(process: Process) -> None:
    """As one from here would; for one that is not ours it means nothing."""
    stream = process.open()
    process.succession.told_to_cancel("0" * 22)
    process.succession.told_to_cancel(stream.sid)
    process.loop.turn()
    assert isinstance(stream.terminal, Completed)
    assert stream.terminal.finish_reason == "cancelled"


def test_a_stream_that_was_taken_from_us_is_stopped_and_says_nothing_more(process: Process) -> None:
    """Its source is closed, no end is invented, its readers hear of it, and it is counted once as handed over."""
    stream, reader = process.open(), RecordingReader()
    stream.attach(reader)
    said = stream.events()
    process.succession.superseded(stream)
    process.loop.turn()
    assert (stream.events(), stream.ended, reader.is_superseded) == (said, False, True)
    assert [source.closed for source in process.sources] == [1]
    assert [account.outcome for account in process.accounts] == ["handed_over"]
    assert process.takeovers == ["superseded"]
    assert process.hub.running == 0


def test_a_stream_that_was_being_cancelled_when_it_was_taken_is_handed_over_too(process: Process) -> None:
    """No end of ours stands in its log."""
    stream = process.open()
    process.hub.cancel_here(stream.sid)
    process.succession.superseded(stream)
    process.loop.turn()
    assert not stream.ended
    assert [account.outcome for account in process.accounts] == ["handed_over"]


def test_readers_are_told_when_the_store_goes_away_and_not_when_it_is_back(process: Process) -> None:
    """What is said now may be lost."""
    process.succession.told_of_outage(away=True)
    process.succession.told_of_outage(away=False)
    assert process.told == [NOT_DURABLE]


# Leaving.


def test_what_runs_is_sealed_and_written_before_it_is_left_to_others(process: Process) -> None:
    """So that they go on with all that was said; nothing ends, each is counted once."""
    streams = [process.open() for _ in range(2)]
    process.loop.run(process.succession.hand_over())
    assert process.store.at_written == [(stream.sid, True) for stream in streams]
    assert [stream.ended for stream in streams] == [False, False]
    assert [account.outcome for account in process.accounts] == ["handed_over"] * 2
    assert all(stream.given_up for stream in streams)
    assert all(source.closed for source in process.sources)


def test_what_is_being_cancelled_is_not_left_to_others(process: Process) -> None:
    """Its end is its own."""
    stop = asyncio.Event()

    class Lingering(ScriptedSource):
        async def pour(self, *_: Any, **__: Any) -> None:
            try:
                await asyncio.sleep(HANG)
            finally:
                await stop.wait()

    pipeline = Pipeline(Lingering(), metrics=process.metrics)
    stream = process.loop.run(process.hub.open(question(), ALICE, pipeline, dialect="native")).stream
    process.loop.turn()
    process.hub.cancel_here(stream.sid)
    process.loop.turn()
    process.loop.call_later(1, stop.set)
    process.loop.run(process.succession.hand_over())
    assert not stream.given_up
    assert isinstance(stream.terminal, Completed)


def test_nothing_is_left_to_others_while_the_store_is_away(process: Process) -> None:
    """They could not know of it: it is cancelled here as in any drain, and says so."""
    process.store.durable = False
    stream = process.open()
    process.loop.run(process.succession.hand_over())
    assert not stream.given_up
    process.loop.run(process.hub.drain(0))
    assert isinstance(stream.terminal, Completed)
    assert stream.terminal.finish_reason == "draining"
    assert [account.outcome for account in process.accounts] == ["gateway_drain"]


# Sessions.


def test_an_orphan_is_superseded_by_its_session_in_another_process(process: Process) -> None:
    """Nobody will come back for the old answer; one that is read goes on."""
    orphan, read = process.open(session_id="s1"), process.open(session_id="s2")
    with process.reading(orphan):
        pass
    with process.reading(read):
        for stream in (orphan, read):
            process.call(partial(process.succession.told_of_new_question, stream.sid))
        process.loop.turn()
        assert (orphan.state, orphan.seal_reason) == (State.CANCELLED, SUPERSEDED)
        assert not read.ended


def test_a_session_that_asks_something_new_is_heard_by_all_processes(process: Process) -> None:
    """And so are its orphans, and that one is none any more."""
    stream = process.open(session_id="s1")
    for _ in range(2):
        with process.reading(stream):
            pass
    told = [asked for asked in process.store.asked if asked[0] in ("supersede", "orphaned", "adopted")]
    assert told == [("supersede", "s1"), ("orphaned", stream.sid), ("adopted", stream.sid), ("orphaned", stream.sid)]


def test_what_may_not_go_on_is_ended_with_what_it_was_refused_with() -> None:
    """It is not made, and does not hang."""
    process = Process(adopt=unwelcome)
    heir = process.find(process.orphan(Text("a")))
    process.loop.turn(10)
    assert failure(heir) == "UNAUTHENTICATED"
    assert [source.calls for source in process.sources] == [0]
    assert process.hub.running == 0
    assert ("settle", heir.sid) in process.store.asked
    assert process.takeovers == ["refused"]
    process.succession.close()
    process.loop.close()
