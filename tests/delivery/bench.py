"""A stream and its readers on a bench: real connections, sinks that remember, time by hand."""

from types import TracebackType
from typing import Any

import orjson

from gateway.delivery.connection import Connection, Ending, Patience
from gateway.delivery.framer import Framer, Framers
from gateway.delivery.heart import Heart
from gateway.dialects.base import Dialect
from gateway.dialects.native import NativeDialect
from gateway.dialects.openai import OpenAIDialect
from gateway.events import Event, Opened, Text
from gateway.sse import ServerEvent
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place, parse_place
from gateway.streams.stream import DEFAULT_BOUNDS, Bounds, Stream
from tests.doubles import DONE, END, ManualLoop, RecordingMetrics, RecordingSink, stream_of

NATIVE = NativeDialect(default_model="m", grace_s=30, grace_max_s=60)
OPENAI = OpenAIDialect()
PATIENCE = Patience(merge_bytes=100, merge_s=2.0, abort_bytes=1000, write_deadline_s=15.0)
SMALL = Bounds(max_bytes=1 << 20, max_events=8, max_audio_ms=1000)


def tokens(count: int, characters: int = 10) -> list[Text]:
    """Pieces of text, no two alike."""
    return [Text(f"{n:0{characters}}") for n in range(count)]


class Bench:
    """One stream; `read` gives it a reader, `advance` lets time pass."""

    def __init__(
        self, *events: Event, bounds: Bounds = DEFAULT_BOUNDS, patience: Patience = PATIENCE, **asked: Any
    ) -> None:
        self.loop = ManualLoop()
        self.metrics = RecordingMetrics()
        self.heart = Heart(heartbeat_s=15, retry_min_ms=1000, retry_max_ms=2000, metrics=self.metrics)
        self.framers = Framers()
        self.patience = patience
        self.stream = stream_of(Opened("m"), *events, bounds=bounds, **asked)
        self._readers: list[Reader] = []

    def __enter__(self) -> "Bench":
        async def start() -> None:
            self.heart.start()

        self.loop.run(start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heart.stop()
        for reader in self._readers:
            reader.task.cancel()
        self.loop.turn()
        self.loop.close()
        if kind is None:
            self.assert_nobody_is_left()

    def assert_nobody_is_left(self) -> None:
        """No reader is told, looked after or lent a framer any more."""
        assert (self.stream.readers, len(self.heart), len(self.framers)) == (0, 0, 0)

    def read(self, dialect: Dialect = NATIVE, place: int | str | None = None, **how: Any) -> "Reader":
        """A new reader, who has had as many turns as it takes to catch up with a short stream."""
        if isinstance(place, int):
            place = f"{self.stream.sid}-{self.stream.epoch}-{place}"
        reader = Reader(self, dialect, None if place is None else parse_place(place), **how)
        self._readers.append(reader)
        self.loop.turn()
        return reader

    def adopt(self, reader: "Reader") -> None:
        """See to its end."""
        self._readers.append(reader)

    def append(self, *events: Event) -> None:
        """All in one batch; nobody has a turn of the loop."""
        self.stream.append(events)

    def finish(self) -> None:
        """The answer is whole."""
        self.stream.append([END])
        self.stream.finish(DONE)
        self.loop.turn()


class Reader:
    """One client's reading: its sink, its connection, how it ended."""

    def __init__(
        self,
        bench: Bench,
        dialect: Dialect,
        place: Place | None,
        *,
        room: int | None = None,
        unnamed: bool = False,
        comes_back: bool = False,
        rotate_at: float = float("inf"),
        asked_at: float | None = None,
        framer: Framer | None = None,
        sink: RecordingSink | None = None,
    ) -> None:
        self.bench, self.dialect = bench, dialect
        self.sink = sink or RecordingSink(room)
        self.connection: Connection
        self.cursor: Cursor

        async def run() -> Ending:
            encoder = dialect.encoder(bench.stream, unnamed=unnamed)
            with bench.framers.lend(bench.stream, encoder, self.sink.packing) as lent:
                self.cursor = Cursor(bench.stream, place)
                self.connection = Connection(
                    self.cursor, framer or lent, self.sink, bench.heart, bench.patience, bench.metrics
                )
                self.connection.comes_back, self.connection.rotate_at = comes_back, rotate_at
                self.connection.asked_at = asked_at
                return await self.connection.run(retry_ms=1500 if dialect.resumable else 0)

        self.task = bench.loop.create_task(run())

    def goes_on_in(self, successor: Stream) -> "Reader":
        """The same client's reading of what goes on with its stream, as delivery goes on with it; had a few turns."""
        again = Reader.__new__(Reader)
        again.bench, again.dialect, again.sink = self.bench, self.dialect, self.sink

        async def run() -> Ending:
            encoder = self.dialect.encoder(successor, unnamed=False)
            with self.bench.framers.lend(successor, encoder, self.sink.packing) as framer:
                again.cursor = Cursor(successor, self.cursor.place)
                again.connection = Connection(
                    again.cursor, framer, self.sink, self.bench.heart, self.bench.patience, self.bench.metrics
                )
                return await again.connection.run(greet=False)

        again.task = self.bench.loop.create_task(run())
        self.bench.adopt(again)
        self.bench.loop.turn()
        return again

    def ending(self) -> Ending | None:
        """How it ended; None while it reads."""
        return self.task.result() if self.task.done() else None

    @property
    def events(self) -> list[ServerEvent]:
        """What has arrived."""
        return self.sink.events

    @property
    def names(self) -> list[str]:
        """The names of what has arrived, in order."""
        return [event.event for event in self.events]

    @property
    def seqs(self) -> list[int]:
        """The places of what has arrived, in order; what has no id of its own is left out."""
        ids = [event.id for event in self.events if event.id and event.event not in ("connected", "close", "warning")]
        return [parse_place(id_).seq for id_ in dict.fromkeys(ids)]

    @property
    def text(self) -> str:
        """The text as such a client keeps it."""
        text = ""
        for event in self.events:
            if event.data == "[DONE]":
                continue
            data = orjson.loads(event.data)
            if "choices" in data:
                text += "".join(choice["delta"].get("content") or "" for choice in data["choices"])
            elif data.get("event", event.event) == "text":
                text = data["token"] if data.get("replace") else text + data["token"]
        return text

    @property
    def last(self) -> ServerEvent:
        """What has arrived last."""
        return self.events[-1]

    def congest(self) -> None:
        """The client stops taking."""
        self.sink.room = 0

    def take(self, count: int | None = None) -> None:
        """The client takes `count` bytes, or everything and ever after; then there are a few turns."""
        self.sink.take(count)
        self.bench.loop.turn(20)
