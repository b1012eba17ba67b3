"""No event is lost or repeated, whatever the order of appending, taking, stalling, leaving and coming back."""

import asyncio

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.delivery.connection import Connection, Ending, Patience
from gateway.delivery.framer import Framer
from gateway.delivery.heart import Heart
from gateway.dialects.native import NativeDialect
from gateway.dialects.openai import OpenAIDialect
from gateway.events import Event, Metadata, Opened, Text
from gateway.sse import Parser, ServerEvent
from gateway.streams.cursor import Cursor
from gateway.streams.ids import parse_place
from gateway.streams.stream import Bounds
from tests.doubles import DONE, END, ManualLoop, RecordingMetrics, RecordingSink, stream_of

ROOMY = Bounds(max_bytes=1 << 20, max_events=10_000, max_audio_ms=1000)
TIGHT = Bounds(max_bytes=1 << 20, max_events=12, max_audio_ms=1000)
PATIENCE = Patience(merge_bytes=60, merge_s=2, abort_bytes=200, write_deadline_s=15, turn_bytes=30, turn_events=5)
CLEAN = (Ending.FINISHED, Ending.SENT_AWAY, Ending.LOST)


class Client:
    """What a client keeps over all its connections: the text, the last id, the places of everything it heard."""

    def __init__(self) -> None:
        self.text = ""
        self.last_id = ""
        self.seqs: list[int] = []
        self.names: list[str] = []
        self.told_of_loss = False

    def hear(self, event: ServerEvent) -> None:
        """One event of the native dialect."""
        data = orjson.loads(event.data)
        self.names.append(event.event)
        if event.event == "warning":
            self.told_of_loss, self.seqs = True, []
        if event.event == "text":
            self.text = data["token"] if data.get("replace") else self.text + data["token"]
        if event.id and event.id != self.last_id:
            self.last_id = event.id
            self.seqs.append(parse_place(event.id).seq)

    def hear_chunk(self, event: ServerEvent) -> None:
        """One chunk of the OpenAI dialect."""
        assert event.event == "message"
        assert not event.id
        self.names.append(event.data if event.data == "[DONE]" else "chunk")
        if event.data != "[DONE]":
            chunk = orjson.loads(event.data)
            if "error" in chunk:
                self.names[-1] = "error"
            else:
                self.text += chunk["choices"][0]["delta"].get("content", "")


class Interleavings(RuleBasedStateMachine):
    """One stream, one client, one connection at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.metrics = RecordingMetrics()
        self.heart = Heart(heartbeat_s=15, retry_min_ms=1, retry_max_ms=2, metrics=self.metrics)
        self.client = Client()
        self.log: list[Event] = []
        self.count = 0

    @initialize(native=st.booleans(), tight=st.booleans(), room=st.sampled_from([None, 0, 200, 2000]))
    def open(self, native: bool, tight: bool, room: int | None) -> None:
        self.native = native
        self.stream = stream_of(bounds=TIGHT if tight else ROOMY)
        self.loop.run(self._start_heart())
        self._append([Opened("m")])
        self._connect(Cursor(self.stream), room)

    async def _start_heart(self) -> None:
        self.heart.start()

    def _connect(self, cursor: Cursor, room: int | None) -> None:
        self.sink = RecordingSink(room)
        self.parser, self.heard_bytes = Parser(1 << 20), 0
        dialect = NativeDialect(default_model="m", grace_s=1, grace_max_s=1) if self.native else OpenAIDialect()

        async def connect() -> asyncio.Task[Ending]:
            framer = Framer(dialect.encoder(self.stream, unnamed=False), self.sink.pack)
            self.connection = Connection(cursor, framer, self.sink, self.heart, PATIENCE, self.metrics)
            self.connection.comes_back = self.native
            self.connection.rotate_at = self.loop.time() + 60
            return asyncio.create_task(self.connection.run(retry_ms=2000 if self.native else 0))

        self.task = self.loop.run(connect())

    def _append(self, events: list[Event]) -> None:
        self.log += events
        self.stream.append(events)

    # What can happen.

    @precondition(lambda self: not self.stream.ended)
    @rule(kinds=st.lists(st.sampled_from("tttm"), min_size=1, max_size=6), apart=st.booleans())
    def append(self, kinds: list[str], apart: bool) -> None:
        """In one batch or one by one, in one turn of the loop."""
        events: list[Event] = []
        for kind in kinds:
            self.count += 1
            events.append(Text(f"<{self.count}>") if kind == "t" else Metadata({"n": self.count}))
        for batch in [[event] for event in events] if apart else [events]:
            self._append(batch)

    @rule(turns=st.integers(1, 4))
    def turn(self, turns: int) -> None:
        self.loop.turn(turns)

    @rule(count=st.sampled_from([1, 50, 500, 5000]))
    def take(self, count: int) -> None:
        self.sink.take(count)

    @rule()
    def stop_taking(self) -> None:
        self.sink.room = 0

    @rule(seconds=st.sampled_from([1.0, 3.0, 20.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds, min(seconds, 2.5))

    @rule()
    def stall(self) -> None:
        """The write deadline comes, if anybody waits for it."""
        self.sink.stall()

    @rule()
    def leave(self) -> None:
        self.sink.leave()

    @rule()
    def drain(self) -> None:
        self.heart.send_away_all("draining")

    @precondition(lambda self: self.native and (self.task.done() or self.sink.gone))
    @rule(room=st.sampled_from([None, 0, 200, 2000]))
    def come_back(self, room: int | None) -> None:
        """With the last id that arrived; what was on its way is lost."""
        self.loop.advance(32, 1.0)
        assert self.task.done(), "a client that left must be noticed by the second heartbeat"
        place = parse_place(self.client.last_id) if self.client.last_id else None
        self._connect(Cursor(self.stream, place), room)

    @precondition(lambda self: not self.stream.ended)
    @rule()
    def finish(self) -> None:
        self._append([END])
        self.log.append(DONE)
        self.stream.finish(DONE)

    # What holds always.

    def _listen(self) -> None:
        new, self.heard_bytes = self.sink.arrived[self.heard_bytes :], len(self.sink.arrived)
        for event in self.parser.feed(new):
            if self.native:
                self.client.hear(event)
            else:
                self.client.hear_chunk(event)

    @invariant()
    def what_has_arrived_is_the_log_up_to_a_place(self) -> None:
        """Text token by token, other events by their places, each once and in order."""
        if not hasattr(self, "stream"):
            return
        self._listen()
        seqs = self.client.seqs
        assert seqs == sorted(set(seqs)), "out of order or repeated"
        if not self.native:
            assert self._text().startswith(self.client.text)
        elif not self.client.told_of_loss and seqs:
            assert self.client.text == self._text(seqs[-1])
            others = {seq for seq, e in enumerate(self.log[: seqs[-1]], 1) if not isinstance(e, Text)}
            assert others <= set(seqs), "an event is missing"

    @invariant()
    def nobody_hoards_bytes_in_this_process(self) -> None:
        """At most a turn or a batch beyond what the client has not taken."""
        if hasattr(self, "stream"):
            assert len(self.sink.waiting) < 8000

    def _text(self, until: int | None = None) -> str:
        return "".join(event.token for event in self.log[:until] if isinstance(event, Text))

    def teardown(self) -> None:
        """The end, and whatever came of it, nothing is left behind."""
        try:
            self._to_the_end()
        finally:
            self.task.cancel()
            self.heart.stop()
            self.loop.turn()
            self.loop.close()

    def _to_the_end(self) -> None:
        """The stream ends, the client takes everything and comes back as often as it must: then it has the whole."""
        if not self.stream.ended:
            self.finish()
        for _ in range(20):
            self.sink.take()
            self.loop.turn(200)
            self._listen()
            if not self.task.done():
                self.sink.leave()
                self.loop.advance(20, 1.0)
            ending = self.task.result()
            if ending is Ending.FINISHED or not self.native:
                break
            place = parse_place(self.client.last_id) if self.client.last_id else None
            self._connect(Cursor(self.stream, place), None)
        assert ending is not Ending.BROKEN
        self.what_has_arrived_is_the_log_up_to_a_place()
        if ending is Ending.FINISHED:
            self._check_whole()
        elif ending in CLEAN:
            assert self.client.names[-1] == "error", "an OpenAI client must hear that it lost its place"
        assert self.stream.readers == len(self.heart) == 0

    def _check_whole(self) -> None:
        if self.native:
            assert [name for name in self.client.names if name not in ("connected", "close")][-1] == "complete"
            assert self.client.names[-1] == "close"
            assert self.client.seqs[-1] == self.stream.head
            assert self._text().endswith(self.client.text)
            assert self.client.told_of_loss or self.client.text == self._text()
        else:
            assert self.client.names[-1] == "[DONE]"
            assert self.client.text == self._text()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(stateful_step_count=40)
