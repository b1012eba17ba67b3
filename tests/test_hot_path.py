"""What a token and a request cost, counted in calls and in what is kept: the guard of the fast path.

Nothing here is timed. Each bound is a little above what was counted when it was set; the figure stands beside it.
"""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from tests.counting import Calls, Turns, count_tokens, counted
from tests.upstream import END, HEAD, answer, chunked
from tests.wires import TARGETS, Scripted, question, scripted_house, settle, tokens

STREAMS = 20
TEN_TOKENS = HEAD + b"".join(map(chunked, answer(f"t{number:016d} " for number in range(10)))) + END

dialects = pytest.mark.parametrize("dialect", TARGETS)


class Bound(NamedTuple):
    """Calls of Python functions and of C functions."""

    python: float
    c: float


TOKEN = Bound(20.8, 27.8)
"""For a token that comes alone, and its share of the turn of 20 streams: 20.15 and 27.05."""

TOKEN_OF_TEN = Bound(5.2, 14.3)
"""For each of ten that come in one read: 4.82 and 13.7."""

READER = Bound(6.5, 6.5)
"""For a further reader of a token: 6 and 6."""

FULL_LOG = 10
"""More calls of either kind for a token of a stream whose log has reached its bounds: 8.1 and 9.0."""

REQUEST = {"native": Bound(665, 625), "openai": Bound(645, 645)}
"""For a whole answer of ten tokens in one read, on connections that are open: about 658 and 613, 636 and 635."""

KEPT_BYTES = 100
"""For a token of 18 characters in the log: 86, give or take, as its list grows by an eighth at a time."""


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    """A gateway on scripted sockets."""
    async with scripted_house() as scripted:
        yield scripted


@dialects
async def test_a_token_takes_no_more_calls_than_it_did(scripted: Scripted, dialect: str) -> None:
    """From the callback of the upstream's socket to the write to the client's, for a LIVE reader."""
    await scripted.open(dialect, STREAMS)
    calls, _ = await count_tokens(scripted.upstreams, 100, turns=10)
    calls.within(*TOKEN, per=10 * STREAMS)
    assert all(b"t%016d" % 109 in client.last for client in scripted.clients)


@dialects
async def test_tokens_that_come_together_share_most_calls(scripted: Scripted, dialect: str) -> None:
    """And go out together."""
    await scripted.open(dialect, STREAMS)
    calls, _ = await count_tokens(scripted.upstreams, 100, turns=10, each=10)
    calls.within(*TOKEN_OF_TEN, per=100 * STREAMS)
    assert all(b"t%016d" % number in client.last for client in scripted.clients for number in range(190, 200))


@dialects
@pytest.mark.parametrize("each", [1, 10])
async def test_what_one_read_brings_is_one_write(scripted: Scripted, dialect: str, each: int) -> None:
    """However many tokens it brings."""
    await scripted.open(dialect, STREAMS)
    before = [client.writes for client in scripted.clients]
    await count_tokens(scripted.upstreams, 100, turns=5, each=each)
    assert [client.writes - known for client, known in zip(scripted.clients, before, strict=True)] == [5] * STREAMS


@dialects
async def test_a_token_asks_nothing_of_the_loop(scripted: Scripted, dialect: str) -> None:
    """No timer, task, future or context: only the turn is called back, once for all that was read in it."""
    await scripted.open(dialect, STREAMS)
    calls, turns = await count_tokens(scripted.upstreams, 100, turns=100)
    assert turns.asked == {"call_soon": 100}, calls.told(100 * STREAMS)
    assert not [name for name in calls.c if "ontext" in name], calls.told(100 * STREAMS)


@dialects
async def test_a_late_token_costs_what_an_early_one_does(scripted: Scripted, dialect: str) -> None:
    """The hundredth and the 50,000th; neither the log nor anything else is walked through."""
    await scripted.open(dialect)
    early, _ = await count_tokens(scripted.upstreams, 100, turns=100)
    await _say(scripted, 200, 50_000)
    late, _ = await count_tokens(scripted.upstreams, 50_000, turns=100)
    assert late.per(100) == early.per(100), late.told(100)


async def test_a_log_that_is_full_adds_little_to_a_token() -> None:
    """Folding and forgetting are paid by many tokens together."""
    async with scripted_house(GATEWAY_STREAM__MAX_EVENTS="1000") as scripted:
        await scripted.open("native")
        usual, _ = await count_tokens(scripted.upstreams, 100, turns=500)
        full, _ = await count_tokens(scripted.upstreams, 600, turns=3_000)
    added = [more - less for more, less in zip(full.per(3_000), usual.per(500), strict=True)]
    assert max(added) <= FULL_LOG, full.told(3_000)


@dialects
async def test_a_further_reader_costs_less_than_a_framing(scripted: Scripted, dialect: str) -> None:
    """Eight in one dialect share the frames: the token is written down once, and each reader hands on the bytes."""
    await scripted.open(dialect)
    (stream,) = scripted.streams
    alone, _ = await count_tokens(scripted.upstreams, 100, turns=100)
    for _ in range(7):
        await scripted.join(dialect, stream.sid)
    together, _ = await count_tokens(scripted.upstreams, 200, turns=100)
    assert all(b"t%016d" % 299 in client.last for client in scripted.clients)
    _further(together, alone).within(*READER, per=700, what="further reader and token")
    assert together.c["dumps"] == alone.c["dumps"] == 100, together.told(100)


@dialects
async def test_a_short_answer_takes_no_more_calls_than_it_did(scripted: Scripted, dialect: str) -> None:
    """A whole request on connections that are open: its tasks are the handler's and the stream's, and no more."""
    scripted.request(question(dialect))
    await settle()
    (client,), (upstream,) = scripted.clients, scripted.upstreams
    upstream.protocol.data_received(TEN_TOKENS)
    await settle()

    def ask(loop: Turns) -> None:
        for _ in range(10):
            client.protocol.data_received(question(dialect))
            loop.play()
            upstream.protocol.data_received(TEN_TOKENS)
            loop.play()

    calls, turns = await counted(ask)
    assert client.last.endswith(END)
    calls.within(*REQUEST[dialect], per=10, what="request")
    assert turns.asked["create_task"] == 20, turns.asked
    assert turns.asked["create_future"] <= 30, turns.asked


async def test_tokens_that_come_while_the_headers_are_held_are_not_folded(scripted: Scripted) -> None:
    """Who asked gets each of them, though its reading began behind them."""
    scripted.request(question("openai"))
    await settle()
    scripted.upstreams[0].protocol.data_received(TEN_TOKENS)
    await settle()
    assert scripted.clients[0].last.count(b'"content":"t0') == 10


async def test_a_token_in_the_log_takes_the_memory_of_its_text(scripted: Scripted) -> None:
    """And the garbage collector has nothing more to look at."""
    await scripted.open("native")
    await _say(scripted, 0, 5_000)
    gc.collect()
    tracked = len(gc.get_objects())
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await _say(scripted, 5_000, 10_000)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept / 5_000 <= KEPT_BYTES, kept / 5_000
    assert len(gc.get_objects()) - tracked <= 20


async def _say(scripted: Scripted, first: int, end: int) -> None:
    """Tokens `first` to `end` of each stream, a hundred in each turn."""
    for number in range(first, end, 100):
        for upstream in scripted.upstreams:
            upstream.protocol.data_received(tokens(number, 100))
        await settle(1)


def _further(together: Calls, alone: Calls) -> Calls:
    """What was added by so many readers more."""
    added = Calls()
    for name, count in together.python.items():
        added.python[name] = count - alone.python[name]
    for name, count in together.c.items():
        added.c[name] = count - alone.c[name]
    return added
