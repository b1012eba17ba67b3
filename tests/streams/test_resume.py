"""Resume as a property: any appends, any readers, any cuts and returns; what a client has is what the log says."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.events import Audio, AudioEvicted, Event, Metadata, Reasoning, Record, Text, Warned, WholeText
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place
from gateway.streams.stream import Bounds
from tests.doubles import DONE, stream_of

ROOMY = Bounds(max_bytes=1 << 20, max_events=10_000, max_audio_ms=10_000)
BOUNDS = st.sampled_from(
    [
        ROOMY,
        Bounds(max_bytes=1 << 20, max_events=6, max_audio_ms=300),
        Bounds(max_bytes=1500, max_events=100, max_audio_ms=300),
    ]
)


class Client:
    """A client as ours are: text appended or replaced, the last id kept, everything else remembered by its place."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.last = self.seq = 0
        self.text = ""
        self.others: dict[int, Event] = {}
        self.starting_over = True

    def come_back(self, cursor: Cursor) -> None:
        """With its last id, after its connection was cut wherever it was."""
        self.cursor = cursor
        self.seq = self.last
        self.starting_over = not self.last

    def hear_notice(self, notice: Event) -> None:
        """A lost place: everything comes anew; text and last id stay what they are until something changes them."""
        if isinstance(notice, Warned):
            self.seq, self.others, self.starting_over = 0, {}, True
        elif isinstance(notice, Text):
            self.text = notice.token

    def hear(self, record: Record) -> None:
        """The next event."""
        assert record.seq > self.seq, "an event was repeated"
        if isinstance(record.event, Text):
            whole = isinstance(record.event, WholeText)
            self.text = record.event.token if whole else self.text + record.event.token
        elif not isinstance(record.event, Reasoning):
            self.others[record.seq] = record.event
        self.last = self.seq = record.seq


class Resuming(RuleBasedStateMachine):
    """One stream, several clients."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Event] = []
        self.clients: list[Client] = []
        self.count = 0

    @initialize(bounds=BOUNDS)
    def open(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.stream = stream_of(bounds=bounds)
        self._append([Metadata({"opened": True})])

    def _append(self, events: list[Event]) -> None:
        self.log += events
        self.stream.append(events)

    @precondition(lambda self: not self.stream.ended)
    @rule(kinds=st.lists(st.sampled_from("ttttrma"), min_size=1, max_size=8))
    def append(self, kinds: list[str]) -> None:
        """Each event is one of its kind, so that none can be taken for another."""
        events: list[Event] = []
        for kind in kinds:
            self.count += 1
            made: dict[str, Event] = {
                "t": Text(f"<{self.count}>"),
                "r": Reasoning(f"({self.count})"),
                "m": Metadata({"n": self.count}),
                "a": Audio(b"x" * 40, "mp3", 24000, "", self.count, False, 100),
            }
            events.append(made[kind])
        self._append(events)

    @precondition(lambda self: len(self.clients) < 4)
    @rule()
    def arrive(self) -> None:
        self.clients.append(Client(Cursor(self.stream)))

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), merge=st.booleans(), max_bytes=st.sampled_from([1, 10, 100, 1 << 20]), cut=st.booleans())
    def read(self, data: st.DataObject, merge: bool, max_bytes: int, cut: bool) -> None:
        """One turn of reading; perhaps the connection is cut in the middle of what was written."""
        client = data.draw(st.sampled_from(self.clients))
        records = list(client.cursor.read(max_bytes, merge=merge))
        arrived = data.draw(st.integers(0, len(records))) if cut else len(records)
        for notice in client.cursor.notices():
            client.hear_notice(notice)
        for record in records[:arrived]:
            self._check(client, record)
            client.hear(record)
        if cut:
            place = Place(self.stream.sid, self.stream.epoch, client.last)
            client.come_back(Cursor(self.stream, place if client.last else None))

    def _check(self, client: Client, record: Record) -> None:
        """What arrives is what was logged between the client's place and the record's, perhaps folded."""
        passed = self.log[client.seq : record.seq]
        event = record.event
        kind = Text if isinstance(event, Text) else type(event)
        if isinstance(event, (Text, Reasoning)):
            run = passed[-1:] if not client.starting_over and len(passed) == 1 else passed
            logged = "".join(e.token for e in run if isinstance(e, (Text, Reasoning)) and isinstance(e, kind))
            assert logged.endswith(event.token)
            assert client.starting_over or logged == event.token, "a piece of a kept place is missing"
        elif isinstance(event, AudioEvicted):
            kept = self.log[record.seq - 1]
            assert isinstance(kept, Audio)
            assert kept.index == event.index
        else:
            assert event == self.log[record.seq - 1]
        if not client.starting_over:
            assert all(isinstance(e, kind) for e in passed[:-1]), "an event was skipped"

    @precondition(lambda self: not self.stream.ended)
    @rule()
    def finish(self) -> None:
        self.log.append(DONE)
        self.stream.finish(DONE)

    @invariant()
    def who_has_read_everything_has_the_text(self) -> None:
        if not hasattr(self, "stream"):
            return
        for client in self.clients:
            if not client.cursor.at_head or client.last != self.stream.head:
                continue
            text = "".join(e.token for e in self.log if isinstance(e, Text))
            assert text.endswith(client.text)
            assert client.text.endswith(self.stream.text())
            if not self.stream.lost:
                assert client.text == text
                places = {seq for seq, e in enumerate(self.log, 1) if not isinstance(e, (Text, Reasoning))}
                assert set(client.others) == places
            assert client.cursor.done == self.stream.ended
            assert client.cursor.lag_bytes == 0

    @invariant()
    def the_log_stays_within_its_bounds(self) -> None:
        if hasattr(self, "stream"):
            assert self.stream.head == len(self.log)
            assert self.stream.kept <= self.bounds.max_events
            assert self.stream.payload <= self.bounds.max_bytes

    def teardown(self) -> None:
        """Everybody reads to the end, and then nobody lacks anything."""
        for client in self.clients:
            while True:
                records = client.cursor.read(50)
                for notice in client.cursor.notices():
                    client.hear_notice(notice)
                if not records:
                    break
                for record in records:
                    self._check(client, record)
                    client.hear(record)
        self.who_has_read_everything_has_the_text()
        assert all(client.cursor.at_head and client.last == self.stream.head for client in self.clients)


TestResuming = Resuming.TestCase
TestResuming.settings = settings(stateful_step_count=40)
