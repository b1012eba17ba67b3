"""MemoryStore beyond the contract: its tombstones are bounded, its account is always exact."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.events import Text
from gateway.stores import memory
from gateway.stores.memory import MemoryStore
from gateway.streams.ids import new_sid
from gateway.streams.stream import Bounds, Stream
from tests.doubles import ALICE, DONE, ManualClock, ManualLoop, question

BOUNDS = Bounds(max_bytes=2000, max_events=10, max_audio_ms=100)
STEPS = st.lists(st.tuples(st.sampled_from(["create", "append", "end", "wait"]), st.integers(0, 600)), max_size=40)


@given(STEPS)
def test_the_account_is_always_the_sum_of_what_is_kept(steps: list[tuple[str, int]]) -> None:
    """Through growth, folding, eviction, refusal and retention, whatever their order."""
    clock, loop, streams = ManualClock(), ManualLoop(), list[Stream]()
    store = MemoryStore(max_bytes=5000, retention_s=300, clock=clock)
    for verb, size in steps:
        running = [stream for stream in streams if not stream.ended]
        if verb == "create":
            stream = Stream(new_sid(), question(), ALICE, BOUNDS)
            stream.append([Text("x" * size)])
            try:
                loop.run(store.create(stream))
            except GatewayError as error:
                assert error.code is Code.STORE_FULL  # noqa: PT017  # both ways out are right ones
                assert sum(s.bytes + s.request_bytes for s in running) >= 5000
            else:
                streams.append(stream)
        elif verb == "append" and running:
            with contextlib.suppress(GatewayError):
                running[size % len(running)].append([Text("x" * size)])
        elif verb == "end" and running:
            running[0].finish(DONE)
            store.settle(running[0])
        else:
            clock.advance(size)
            store.sweep()
        kept = [stream for stream in streams if stream.on_growth is not None]
        assert store.bytes_kept == sum(stream.bytes + stream.request_bytes for stream in kept)
        assert all(stream in kept for stream in streams if not stream.ended)
    loop.close()


async def test_tombstones_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest names are forgotten: 404 instead of 410 is the price of a bound."""
    monkeypatch.setattr(memory, "TOMBSTONES_MAX", 3)
    clock = ManualClock()
    store = MemoryStore(max_bytes=1 << 20, retention_s=1, clock=clock)
    streams = [Stream(new_sid(), question(), ALICE) for _ in range(5)]
    for stream in streams:
        await store.create(stream)
        stream.finish(DONE)
        store.settle(stream)
        clock.advance(2)
        store.sweep()
    codes = []
    for stream in streams:
        with pytest.raises(GatewayError) as raised:
            await store.find(stream.sid, ALICE)
        codes.append(raised.value.code)
    assert codes == [Code.STREAM_NOT_FOUND] * 2 + [Code.STREAM_EXPIRED] * 3


async def test_who_still_reads_an_evicted_stream_reads_it_to_its_end() -> None:
    """Eviction takes it from the store, not out of a reader's hands, and later growth is nobody's debt."""
    clock = ManualClock()
    store = MemoryStore(max_bytes=1 << 20, retention_s=1, clock=clock)
    stream = Stream(new_sid(), question(), ALICE)
    await store.create(stream)
    stream.append([Text("x" * 100)])
    stream.finish(DONE)
    store.settle(stream)
    clock.advance(2)
    store.sweep()
    assert stream.text() == "x" * 100
    assert store.bytes_kept == 0
