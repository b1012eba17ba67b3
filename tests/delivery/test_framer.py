"""Framing once for all: equal readers share bytes, and nothing is kept for readers who have left."""

from collections.abc import Sequence

from gateway.delivery.framer import Framers
from gateway.delivery.packing import CHUNKED
from gateway.dialects.native import NativeEncoder
from gateway.events import Record, Text
from gateway.sse import Frame
from tests.delivery.bench import NATIVE, OPENAI, Bench
from tests.doubles import RecordingSink, stream_of


class Counting(NativeEncoder):
    """Remembers what it was asked for."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they are
        self.asked: list[int] = []
        self.layout = None

    def encode(self, record: Record) -> Sequence[Frame]:
        self.asked.append(record.seq)
        return super().encode(record)


def test_live_readers_of_one_kind_share_the_bytes() -> None:
    """An event is put into words once, however many read it; and each gets the very same object."""
    with Bench() as bench:
        counting = Counting(bench.stream, unnamed=False)
        with bench.framers.lend(bench.stream, counting, RecordingSink().packing):
            readers = [bench.read() for _ in range(3)]
            counting.asked.clear()
            bench.append(Text("a"))
            bench.append(Text("b"), Text("c"))
            assert counting.asked == [2, 3, 4]
        for number in (-1, -2):
            assert len({id(reader.sink.writes[number]) for reader in readers}) == 1
        assert {reader.text for reader in readers} == {"abc"}
        bench.finish()


def test_catching_up_does_not_disturb_who_is_live() -> None:
    """What is replayed to one, perhaps folded, is not taken for what another has just been told."""
    with Bench(Text("a"), Text("b")) as bench:
        live = bench.read()
        bench.append(Text("c"))
        late = bench.read()
        bench.append(Text("d"))
        assert live.text == late.text == "abcd"
        assert live.seqs == [1, 3, 4, 5]
        assert late.seqs == [1, 4, 5]


def test_a_framer_lives_as_long_as_anybody_uses_it() -> None:
    """One for each stream, epoch, way of telling and kind of sink; then it is forgotten."""
    framers, stream = Framers(), stream_of()
    packing = RecordingSink().packing
    with framers.lend(stream, NATIVE.encoder(stream, unnamed=False), packing) as one:
        with (
            framers.lend(stream, NATIVE.encoder(stream, unnamed=False), packing) as same,
            framers.lend(stream, NATIVE.encoder(stream, unnamed=True), packing) as unnamed,
            framers.lend(stream, OPENAI.encoder(stream), packing) as openai,
            framers.lend(stream, NATIVE.encoder(stream, unnamed=False), CHUNKED) as packed,
            framers.lend(other := stream_of(), NATIVE.encoder(other, unnamed=False), packing) as others,
        ):
            assert same is one
            assert len({id(framer) for framer in (one, unnamed, openai, packed, others)}) == 5
            assert len(framers) == 5
        assert len(framers) == 1
    assert len(framers) == 0


def test_a_new_epoch_is_framed_anew() -> None:
    """Its ids are others."""
    framers, stream = Framers(), stream_of(Text("a"))
    packing = RecordingSink().packing
    with framers.lend(stream, NATIVE.encoder(stream, unnamed=False), packing) as before:
        stream.epoch += 1
        with framers.lend(stream, NATIVE.encoder(stream, unnamed=False), packing) as after:
            assert before is not after
            assert b"-2-1\n" in after.frame(1, [Text("a")])
