"""Ledger: what streams cost is counted while they run, settled when they end, and ends them when it is too much."""

import asyncio

import pytest

from gateway.admission.ledger import Ledger
from gateway.admission.permit import FreePermit, Permit
from gateway.errors import Code
from gateway.events import Failed, Text, TextComplete, Usage
from gateway.hub import Opening
from gateway.limits import Budget, Charge
from gateway.pipeline import Pipeline
from gateway.stores.limits_memory import MemoryLimiter
from gateway.streams.stream import Stream
from tests.bench import Bench, over
from tests.doubles import ALICE, HANG, ManualClock, ScriptedSource, Step, question, stream_of
from tests.house import eventually

ASKED = "q" * 40
HALF = [Text("x" * 400)]
HUGE = 10**9


class Counted(FreePermit):
    """A permit that is counted against budgets."""

    def __init__(self, *budgets: Budget, waits: bool = False) -> None:
        self.charge = Charge(budgets=budgets)
        self.waits = waits
        self.turns = asyncio.Event()

    async def turn(self, stream: Stream) -> None:
        await self.turns.wait()
        self.waits = False


class Books:
    """A ledger over a hub, and what its limiter holds."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.clock = ManualClock(86_400.0 * 100 + 3600)
        self.limiter = MemoryLimiter(clock=self.clock)
        hub = bench.hub
        self.ledger = Ledger(
            self.limiter,
            making=hub.making,
            permit_of=hub.permit_of,
            fail_where=hub.fail_where,
            clock=self.clock,
        )
        hub.witnesses.append(self.ledger)

    async def open(self, permit: Counted, *script: Step) -> Opening:
        """Open a stream that plays `script`."""
        source = ScriptedSource(*script)

        async def admit(sid: str) -> Counted:
            return permit

        opening = await self.bench.hub.open(
            question(ASKED), ALICE, Pipeline(source, metrics=self.bench.metrics), dialect="native", admit=admit
        )
        await asyncio.sleep(0.01)
        return opening

    def spent(self, budget: Budget) -> int:
        """Tokens that were counted today."""
        return self.limiter.own(budget)[1]


TENANT = Budget("tenant", "acme", HUGE)
ALL = Budget("global", "", HUGE)


@pytest.fixture
def books(bench: Bench) -> Books:
    return Books(bench)


async def test_what_runs_is_counted_once_a_look(books: Books) -> None:
    """The question once, the answer as it grows; against each of its budgets, and several streams as one."""
    more = asyncio.Event()
    await books.open(Counted(TENANT, ALL), HALF, more, HALF, HANG)
    await books.open(Counted(ALL), HALF, HANG)
    books.ledger.look()
    each = books.spent(TENANT)
    assert each == 10 + 100
    assert books.spent(ALL) == 2 * each
    books.ledger.look()
    assert books.spent(TENANT) == each, "nothing was made since"
    more.set()
    await asyncio.sleep(0.01)
    books.ledger.look()
    assert books.spent(TENANT) == each + 100


@pytest.mark.parametrize("looked", [True, False], ids=["looked at", "over before"])
async def test_the_reported_usage_is_what_counts_in_the_end(books: Books, looked: bool) -> None:
    """Be it less than the estimate or more, and the stream ever so short."""
    for usage in (Usage(20, 30), Usage(2000, 3000)):
        before, end = books.spent(TENANT), asyncio.Event()
        opening = await books.open(Counted(TENANT), HALF, end, [TextComplete("stop", usage)])
        if looked:
            books.ledger.look()
            assert books.spent(TENANT) > before
        end.set()
        await over(opening.stream)
        await eventually(lambda: not books.bench.hub.running)
        books.ledger.look()
        assert books.spent(TENANT) == before + usage.prompt_tokens + usage.completion_tokens


@pytest.mark.parametrize(
    ("looked", "usage", "today"),
    [(False, Usage(2, 3), 0), (True, Usage(2, 3), 0), (False, Usage(100, 100), 90), (True, Usage(100, 100), 90)],
    ids=["less, told before midnight", "less, told on both days", "more", "more, told on both days"],
)
async def test_what_was_counted_too_much_yesterday_is_not_given_back_today(
    books: Books, *, looked: bool, usage: Usage, today: int
) -> None:
    """Else a stream that ends behind midnight would pay for others that run today."""
    more, end = asyncio.Event(), asyncio.Event()
    opening = await books.open(Counted(TENANT), HALF, more, [Text("x" * 200)], end, [TextComplete("stop", usage)])
    books.ledger.look()
    assert books.spent(TENANT) == 110
    books.clock.advance(86_400)
    books.limiter.spent((TENANT,), 1000)
    if looked:
        more.set()
        await asyncio.sleep(0.01)
        books.ledger.look()
        assert books.spent(TENANT) == 1000 + 50
    more.set()
    end.set()
    await over(opening.stream)
    await eventually(lambda: not books.bench.hub.running)
    assert books.spent(TENANT) == 1000 + today


async def test_cancelled_and_failed_streams_are_settled_too(books: Books) -> None:
    """With the estimate of what they made: it was made, whoever has it."""
    cancelled = await books.open(Counted(TENANT), HALF, HANG)
    books.ledger.look()
    await books.bench.hub.cancel(cancelled.stream.sid, ALICE)
    await over(cancelled.stream)
    await eventually(lambda: not books.bench.hub.running)
    assert books.spent(TENANT) == 110
    await over((await books.open(Counted(TENANT), HALF, RuntimeError("broken"))).stream)
    await eventually(lambda: not books.bench.hub.running)
    assert books.spent(TENANT) == 220


async def test_who_waits_for_its_turn_costs_nothing(books: Books) -> None:
    """Neither while it waits nor when it leaves; the question is counted when its turn has come."""
    permit = Counted(TENANT, waits=True)
    opening = await books.open(permit, HALF, HANG)
    books.ledger.look()
    assert books.spent(TENANT) == 0
    await books.bench.hub.cancel(opening.stream.sid, ALICE)
    await over(opening.stream)
    books.ledger.look()
    assert books.spent(TENANT) == 0
    permit = Counted(TENANT, waits=True)
    await books.open(permit, HALF, HANG)
    permit.turns.set()
    await asyncio.sleep(0.01)
    books.ledger.look()
    assert books.spent(TENANT) == 110


async def test_a_used_up_budget_ends_its_streams_and_no_others(books: Books) -> None:
    """As failed with BUDGET_EXCEEDED, the text so far kept, and midnight of UTC as the time to come again."""
    small = Budget("tenant", "small", 100)
    ended = [(await books.open(Counted(small, TENANT), HALF, HANG)).stream for _ in range(2)]
    other = (await books.open(Counted(TENANT), HALF, HANG)).stream
    free = (await books.open(Counted(), HALF, HANG)).stream
    books.clock.advance(1800)
    books.ledger.look()
    for stream in ended:
        await over(stream)
        assert isinstance(stream.terminal, Failed)
        assert stream.terminal.code == Code.BUDGET_EXCEEDED.name
        assert stream.terminal.retry_after_s == 22.5 * 3600
        assert stream.terminal.retryable
        assert stream.text() == "x" * 400
    assert not other.ended
    assert not free.ended
    verdict = await books.limiter.charge("s", Charge(budgets=(small,)), may_wait=True)
    assert verdict.refused == small


async def test_a_budget_is_whole_again_at_midnight(books: Books) -> None:
    """A stream that runs over midnight is counted against the new day from there on."""
    small, more = Budget("tenant", "small", 200), asyncio.Event()
    await books.open(Counted(small), HALF, more, HALF, HANG)
    books.ledger.look()
    before = books.spent(small)
    books.clock.advance(23 * 3600)
    assert books.spent(small) == 0
    more.set()
    await asyncio.sleep(0.01)
    books.ledger.look()
    assert books.spent(small) == 100 < before
    assert books.bench.hub.running == 1


async def test_a_stream_that_is_handed_over_is_counted_once_in_all(books: Books, bench: Bench) -> None:
    """Here until it goes, there from what it was when it came."""
    permit, there = Counted(TENANT), Books(bench)
    bench.hub.witnesses.remove(there.ledger)
    opening = await books.open(permit, HALF, HANG)
    heir = opening.stream.copy(opening.stream.lineage.succeeded(opening.stream.head))
    bench.hub.let_go(opening.stream)
    await eventually(lambda: not bench.hub.running)
    assert books.spent(TENANT) == 110
    there.ledger._making = lambda: [(heir, permit)]
    there.ledger.look()
    assert there.spent(TENANT) == 0
    heir.append([Text("y" * 400)])
    there.ledger.look()
    assert there.spent(TENANT) == 100


async def test_a_stream_that_waited_when_it_was_taken_over_is_counted_whole(books: Books) -> None:
    """Nobody has counted its question yet."""
    permit, stream = Counted(TENANT, waits=True), stream_of(text=ASKED)
    books.ledger._making = lambda: [(stream, permit)]
    books.ledger.look()
    permit.waits = False
    stream.append(HALF)
    books.ledger.look()
    assert books.spent(TENANT) == 110


async def test_streams_without_a_budget_are_not_remembered(books: Books) -> None:
    """Where no budget is set nothing is kept, and what has ended is forgotten."""
    free, counted = await books.open(Counted(), HALF, HANG), await books.open(Counted(TENANT), HALF, HANG)
    books.ledger.look()
    assert list(books.ledger._tabs) == [counted.stream.sid]
    for opening in (free, counted):
        await books.bench.hub.cancel(opening.stream.sid, ALICE)
        await over(opening.stream)
    await eventually(lambda: not books.bench.hub.running)
    assert not books.ledger._tabs


async def test_a_ledger_looks_by_itself_and_survives_what_goes_wrong(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a second; a fault of one look is not the end of looking."""
    monkeypatch.setattr("gateway.admission.ledger.LOOK_S", 0.01)
    looks = 0

    def making() -> list[tuple[Stream, Permit]]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("a fault")
        return books.bench.hub.making()

    books.ledger._making = making
    await books.open(Counted(TENANT), HALF, HANG)
    books.ledger.start()
    await eventually(lambda: books.spent(TENANT) == 110)
    await books.ledger.stop()
