"""No event is lost or repeated, whatever the order of appending, taking, stalling, leaving and coming back."""

import asyncio

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.connection import Connection, Ending, Patience
from gateway.delivery.framer import Framer
from gateway.delivery.heart import Heart
from gateway.dialects.native import NativeDialect
from gateway.dialects.openai import OpenAIDialect
from gateway.events import Event, Metadata, Opened, Text
from gateway.sse import Parser, ServerEvent
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place, parse_place
from gateway.streams.stream import Bounds
from tests.doubles import DONE, END, ManualLoop, RecordingMetrics, RecordingSink, stream_of

ROOMY = Bounds(max_bytes=1 << 20, max_events=10_000, max_audio_ms=1000)
TIGHT = Bounds(max_bytes=1 << 20, max_events=12, max_audio_ms=1000)
PATIENCE = Patience(merge_bytes=60, merge_s=2, abort_bytes=200, write_deadline_s=15, turn_bytes=30, turn_events=5)
ROOMS = st.sampled_from([None, None, 0, 200, 2000])
STEPS = st.lists(
    st.tuples(
        # What happens most often stands most often here.
        st.sampled_from(
            ["append", "turn", "take"] * 5
            + ["batch", "return"] * 3
            + ["stop", "wait"] * 2
            + ["stall", "leave", "drain", "end"]
        ),
        st.integers(0, 5),
    ),
    min_size=15,
    max_size=40,
)


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


class Play:
    """One stream, one client, one connection at a time."""

    def __init__(self, native: bool, bounds: Bounds, room: int | None) -> None:
        self.loop = ManualLoop()
        self.metrics = RecordingMetrics()
        self.heart = Heart(heartbeat_s=15, retry_min_ms=1, retry_max_ms=2, metrics=self.metrics)
        self.client = Client()
        self.log: list[Event] = []
        self.count = 0
        self.native = native
        self.stream = stream_of(bounds=bounds)
        dialect = NativeDialect(default_model="m", grace_s=1, grace_max_s=1) if native else OpenAIDialect()
        # One for all connections, as where several read along.
        self.framer = Framer(dialect.encoder(self.stream, unnamed=False), RecordingSink().packing)
        self.sink = RecordingSink()
        self._append([Opened("m")])
        self._connect(None, room)

    def _connect(self, place: Place | None, room: int | None) -> None:
        self.sink = RecordingSink(room)
        self.parser, self.heard_bytes = Parser(1 << 20), 0

        async def connect() -> asyncio.Task[Ending]:
            if not self.heart.tick:
                self.heart.start()
            cursor = Cursor(self.stream, place)
            self.connection = Connection(cursor, self.framer, self.sink, self.heart, PATIENCE, self.metrics)
            self.connection.comes_back = self.native
            self.connection.rotate_at = self.loop.time() + 60
            return asyncio.create_task(self.connection.run(retry_ms=2000 if self.native else 0))

        self.task = self.loop.run(connect())

    def _append(self, events: list[Event]) -> None:
        self.log += events
        congested, writes = self.sink.congested, len(self.sink.writes)
        self.stream.append(events)
        assert not congested or len(self.sink.writes) == writes, "written although the client's socket is full"

    def _make(self, number: int) -> Event:
        self.count += 1
        return Metadata({"n": self.count}) if number == 5 else Text(f"<{self.count}>")

    def step(self, kind: str, number: int) -> None:
        """One thing happens."""
        if kind == "append" and not self.stream.ended:
            for _ in range(number):
                self._append([self._make(number)])
        elif kind == "batch" and not self.stream.ended:
            self._append([self._make(n) for n in range(number)])
        elif kind == "turn":
            self.loop.turn(number)
        elif kind == "take":
            self.sink.take((0, 1, 30, 200, 1000, 5000)[number])
        elif kind == "stop":
            self.sink.room = 0
        elif kind == "wait":
            self.loop.advance((1, 3, 5, 15, 31, 70)[number], 1.0)
        elif kind == "stall":
            self.sink.stall()
        elif kind == "leave":
            self.sink.leave()
        elif kind == "drain":
            self.heart.send_away_all("draining")
        elif kind == "end" and not self.stream.ended:
            self.end()
        elif kind == "return" and (self.task.done() or self.sink.gone):
            self.come_back((None, None, 0, 200, 2000, None)[number])

    def end(self) -> None:
        """The answer is whole."""
        self._append([END])
        self.log.append(DONE)
        self.stream.finish(DONE)

    def come_back(self, room: int | None) -> None:
        """With the last id that arrived; what was on its way is lost. Without ids, as somebody new."""
        self.loop.advance(32, 1.0)
        assert self.task.done(), "a client that left must be noticed by the second heartbeat"
        if not self.native:
            self.client = Client()
        self._connect(parse_place(self.client.last_id) if self.client.last_id else None, room)

    def check(self) -> None:
        """What has arrived is the log up to a place: text token by token, other events each once and in order."""
        new, self.heard_bytes = self.sink.arrived[self.heard_bytes :], len(self.sink.arrived)
        for event in self.parser.feed(new):
            if self.native:
                self.client.hear(event)
            else:
                self.client.hear_chunk(event)
        seqs = self.client.seqs
        assert seqs == sorted(set(seqs)), "out of order or repeated"
        if not self.native:
            assert self._text().startswith(self.client.text)
        elif not self.client.told_of_loss and seqs:
            assert self.client.text == self._text(seqs[-1])
            others = {seq for seq, e in enumerate(self.log[: seqs[-1]], 1) if not isinstance(e, Text)}
            assert others <= set(seqs), "an event is missing"
        # At most a turn or a batch beyond what the client has not taken.
        assert len(self.sink.waiting) < 8000

    def _text(self, until: int | None = None) -> str:
        return "".join(event.token for event in self.log[:until] if isinstance(event, Text))

    def to_the_end(self) -> None:
        """The stream ends, the client takes everything and comes back as often as it must: then it has the whole."""
        if not self.stream.ended:
            self.end()
        for _ in range(20):
            self.sink.take()
            self.loop.turn(100)
            self.check()
            if not self.task.done():
                self.sink.leave()
                self.loop.advance(32, 1.0)
            ending = self.task.result()
            if ending is Ending.FINISHED or not self.native:
                break
            self.come_back(None)
        names = [name for name in self.client.names if name not in ("connected", "close")]
        if self.native:
            assert ending is Ending.FINISHED
            assert names[-1] == "complete"
            assert self.client.seqs[-1] == self.stream.head
            assert self._text().endswith(self.client.text)
            assert self.client.told_of_loss or self.client.text == self._text()
        elif ending is Ending.FINISHED:
            assert names[-1] == "[DONE]"
            assert self.client.text == self._text()
        elif ending is Ending.LOST:
            assert names[-1] == "error", "an OpenAI client must hear that it lost its place"
        assert ending is not Ending.BROKEN
        assert self.stream.readers == len(self.heart) == 0

    def close(self) -> None:
        """Nothing is left behind."""
        self.task.cancel()
        self.heart.stop()
        self.loop.turn()
        self.loop.close()


@pytest.mark.parametrize("bounds", [ROOMY, TIGHT], ids=["all is kept", "much is folded"])
@pytest.mark.parametrize("native", [True, False], ids=["native", "openai"])
@given(room=ROOMS, steps=STEPS)
def test_no_event_is_lost_in_any_interleaving(
    native: bool, bounds: Bounds, room: int | None, steps: list[tuple[str, int]]
) -> None:
    """After every step what the client has is the log up to a place, and in the end it has the whole."""
    play = Play(native, bounds, room)
    try:
        for kind, number in steps:
            play.step(kind, number)
            play.check()
        play.to_the_end()
    finally:
        play.close()


def test_a_beat_that_nobody_takes_starts_the_write_deadline() -> None:
    """A client may stop reading while the model thinks: that must not go unnoticed until the next token."""
    play = Play(native=True, bounds=ROOMY, room=None)
    try:
        play.loop.turn()
        play.sink.room = 0
        play.loop.advance(15, 1.0)
        assert (play.sink.beats, play.sink.limits[-1:]) == (1, [PATIENCE.write_deadline_s])
        play.loop.advance(60, 1.0)
        assert play.sink.beats == 1
        play.sink.stall()
        play.loop.turn()
        assert play.task.result() is Ending.SLOW
    finally:
        play.close()
