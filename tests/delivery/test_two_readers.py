"""Two readers in ways of their own on one stream: whatever happens to one, each has the log, or knows what it lacks."""

from itertools import accumulate

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery.connection import Ending, Patience
from gateway.events import Event, Opened, Status, Text
from gateway.streams.ids import parse_place
from gateway.streams.stream import DEFAULT_BOUNDS
from tests.delivery.bench import NATIVE, OPENAI, SMALL, Bench, Reader

PATIENCE = Patience(merge_bytes=60, merge_s=2, abort_bytes=600, write_deadline_s=15, turn_bytes=90, turn_events=6)
WAYS = st.sampled_from(["named", "unnamed", "openai"])
ROOMS = st.sampled_from([None, 0, 300])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.sampled_from([True, True, False]), min_size=1, max_size=8)),
        st.tuples(st.sampled_from(["congest", "drain", "leave"]), st.integers(0, 1)),
        st.tuples(st.just("take"), st.integers(0, 1), st.sampled_from([1, 100, 1000])),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 3.0])),
    ),
    max_size=30,
)


def begin(bench: Bench, way: str, room: int | None, place: str | None = None) -> Reader:
    """A reader who reads in this way."""
    return bench.read(OPENAI if way == "openai" else NATIVE, place, unnamed=way == "unnamed", room=room)


class Log:
    """What was appended, to compare with."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.events: list[Event] = [Opened("m")]

    def append(self, kinds: list[bool]) -> None:
        """Text or a status, no two alike, in one batch."""
        numbers = range(len(self.events), len(self.events) + len(kinds))
        batch: list[Event] = [
            Text(f"<{n}>") if text else Status(f"s{n}") for n, text in zip(numbers, kinds, strict=True)
        ]
        self.events += batch
        self.bench.append(*batch)

    def text(self, until: int | None = None) -> str:
        """Up to a place."""
        return "".join(event.token for event in self.events[:until] if isinstance(event, Text))


def hear_native(reader: Reader, log: Log, text: str = "", seq: int = 0, gap: bool = False) -> tuple[str, int, bool]:
    """Check all that has arrived, event by event, behind what was heard before; `gap` is whether a GAP was told."""
    for arrived in reader.events:
        data = orjson.loads(arrived.data)
        name = data.get("event", arrived.event)
        if name == "warning":
            assert data["code"] == "GAP"
            gap, seq = True, 0
        if name == "text":
            text = data["token"] if data.get("replace") else text + data["token"]
        if name in ("connected", "warning", "close") or not arrived.id:
            continue
        place = parse_place(arrived.id).seq
        if name == "text" and not data["token"]:
            continue
        assert place > seq, "repeated or out of order"
        if not gap:
            skipped = log.events[seq : place - 1]
            assert name == "text" or not skipped, "something was skipped in front of what is no text"
            assert all(isinstance(event, Text) for event in skipped), "an event that is no text was skipped"
            assert text == log.text(place)
        seq = place
    return text, seq, gap


def check_native(reader: Reader, way: str, log: Log) -> None:
    """What one connection brought, and, where it was cut off, what the next one brings."""
    text, seq, gap = hear_native(reader, log)
    ending = reader.ending()
    assert ending in (Ending.FINISHED, Ending.SLOW, Ending.GONE)
    if ending is not Ending.FINISHED:
        ids = [event.id for event in reader.events if event.id]
        back = begin(log.bench, way, None, ids[-1] if ids else None)
        log.bench.loop.turn(100)
        assert back.ending() is Ending.FINISHED
        text, seq, gap = hear_native(back, log, text, seq if ids else 0, gap)
    assert seq == log.bench.stream.head
    assert log.text().endswith(text)
    assert text.endswith(log.bench.stream.text())
    assert gap or log.bench.stream.lost or text == log.text()


def check_openai(reader: Reader, log: Log) -> None:
    """A beginning of the answer, and called whole only if it is."""
    said = [event.data for event in reader.events]
    ending = reader.ending()
    assert ending in (Ending.FINISHED, Ending.LOST, Ending.SLOW, Ending.GONE)
    if ending is Ending.FINISHED:
        assert reader.text == log.text()
        assert said[-1] == "[DONE]"
        return
    assert log.text().startswith(reader.text)
    assert "[DONE]" not in said
    assert reader.text in accumulate((e.token for e in log.events if isinstance(e, Text)), initial="")
    if ending is Ending.LOST:
        assert orjson.loads(said[-1])["error"]["code"] == "GAP"


@settings(max_examples=200)
@given(st.tuples(WAYS, WAYS), st.tuples(ROOMS, ROOMS), st.booleans(), STEPS, st.integers(0, 3))
def test_each_of_two_readers_has_the_log_or_knows_what_it_lacks(
    ways: tuple[str, str], rooms: tuple[int | None, ...], small: bool, steps: list[tuple[str, ...]], turns: int
) -> None:
    """Appends, full sockets, leaving, waiting, in any order: no gap, no repeat, ids ascending, text exact."""
    with Bench(bounds=SMALL if small else DEFAULT_BOUNDS, patience=PATIENCE) as bench:
        log, readers = Log(bench), [begin(bench, *how) for how in zip(ways, rooms, strict=True)]
        for step in steps:
            perform(step, log, readers)
            bench.loop.turn(turns)
        bench.finish()
        log.events += bench.stream.events()[-2:]
        for reader in readers:
            reader.take()
        bench.loop.turn(100)
        for way, reader in zip(ways, readers, strict=True):
            if way == "openai":
                check_openai(reader, log)
            else:
                check_native(reader, way, log)


def perform(step: tuple[object, ...], log: Log, readers: list[Reader]) -> None:
    """One thing that happens."""
    match step:
        case ("append", list(kinds)):
            log.append(kinds)
        case ("congest", int(which)):
            readers[which].congest()
        case ("drain", int(which)):
            readers[which].take()
        case ("leave", int(which)):
            readers[which].sink.leave()
        case ("take", int(which), int(count)):
            readers[which].sink.take(count)
        case ("wait", float(seconds)):
            log.bench.loop.advance(seconds)
        case _:
            raise AssertionError(step)
