"""Rollback: what is counted, what sets a trigger off and what does not, and that it is done once."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.admission.outcomes import Outcomes
from gateway.admission.rollback import ACTOR, Rollback, Triggers
from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag, Step
from gateway.stores.flags_memory import MemoryFlags
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Account
from tests.doubles import ManualClock, RecordingMetrics, stream_of

OK = Account("native", "local", "ok", "", 1.0, 100, 200, True, 0.1)
FAILED = OK._replace(outcome="provider_error", error="UPSTREAM_ERROR")


class Watched:
    """A rollout at half of all users, and what watches it."""

    def __init__(self, *, shared: Any = None, flag: Flag | None = None, **triggers: Any) -> None:
        self.clock = ManualClock(1_800_000_000.0)
        self.store = MemoryFlags([flag or Flag(STREAMING, percent=50)], clock=self.clock)
        self.metrics = RecordingMetrics()
        self.told: list[tuple[str, str]] = []
        self.rollback = Rollback(
            self.store,
            Triggers(**triggers),
            self.metrics,
            shared=shared,
            on_rollback=lambda name, reason: self.told.append((name, reason)),
            clock=self.clock,
        )

    def end(self, account: Account, times: int = 1, stream: Stream | None = None) -> None:
        """Streams end like that."""
        for _ in range(times):
            self.rollback.ended(stream or stream_of(), account)

    @property
    def flag(self) -> Flag:
        """As it is now."""
        return self.store.read()[STREAMING]

    async def triggered(self) -> bool:
        """Look; whether the flag is rolled back by now."""
        await self.rollback.look()
        return self.flag.rolled_back is not None


async def test_more_errors_than_allowed_take_the_rollout_back(caplog: pytest.LogCaptureFixture) -> None:
    """To 0, without its schedule, marked with the reason, told in log, metric, callable and audit trail."""
    watched = Watched(flag=Flag(STREAMING, percent=1, steps=(Step(1.0, 50), Step(2e9, 100))))
    watched.end(OK, 97)
    watched.end(FAILED, 3)
    assert await watched.triggered()
    flag = watched.flag
    assert (flag.percent, flag.steps, flag.version) == (0, (), 1)
    assert flag.rolled_back is not None
    assert "3.0% of 100 streams failed" in flag.rolled_back.reason
    assert watched.told == [(STREAMING, flag.rolled_back.reason)]
    assert watched.metrics.of("rolled_back") == [("error_rate",)]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "the rollout was taken back")
    ]
    assert [entry.actor for entry in await watched.store.audit(STREAMING)] == [ACTOR]


async def test_it_is_taken_back_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is looked at while the bad ones are still in the window."""
    watched = Watched()
    watched.end(FAILED, 200)
    for _ in range(3):
        assert await watched.triggered()
        watched.end(FAILED, 10)
    assert len(watched.told) == len(caplog.records) == 1
    assert watched.flag.version == 1


async def test_as_many_errors_as_allowed_take_nothing_back() -> None:
    """2 in 100 are not more than 2 percent."""
    watched = Watched()
    watched.end(OK, 98)
    watched.end(FAILED, 2)
    assert not await watched.triggered()


async def test_too_few_streams_say_nothing() -> None:
    """99 failures are no rate."""
    watched = Watched()
    watched.end(FAILED, 99)
    assert not await watched.triggered()
    watched.end(FAILED)
    assert await watched.triggered()


@pytest.mark.parametrize("outcome", ["caller_cancel", "caller_disconnect", "gateway_drain", "handed_over"])
async def test_what_a_caller_or_a_drain_ended_is_not_counted(outcome: str) -> None:
    """Neither as a failure nor as a stream."""
    watched = Watched()
    watched.end(OK._replace(outcome=outcome), 1000)
    watched.end(FAILED, 99)
    assert not await watched.triggered()


async def test_questions_that_the_upstream_finds_wrong_are_not_counted() -> None:
    """Else anybody could end a rollout by asking wrong ones."""
    watched = Watched()
    watched.end(FAILED._replace(error=Code.UPSTREAM_REJECTED.name), 1000)
    assert not await watched.triggered()


async def test_what_lies_behind_the_window_is_forgotten() -> None:
    """Five minutes by default."""
    watched = Watched()
    watched.end(FAILED, 99)
    watched.clock.advance(311)
    watched.end(FAILED)
    assert not await watched.triggered()


async def test_what_ended_before_the_last_change_is_not_held_against_it() -> None:
    """A person who goes on after a rollback is not stopped again by what was known already."""
    watched = Watched()
    watched.end(FAILED, 200)
    assert await watched.triggered()
    await watched.store.change(STREAMING, lambda flag: replace(flag, percent=5, rolled_back=None), "anna")
    watched.end(FAILED, 200)
    assert not await watched.triggered()
    watched.clock.advance(10)
    assert not await watched.triggered()
    watched.end(FAILED, 100)
    assert await watched.triggered()


@pytest.mark.parametrize(
    ("triggers", "bad", "trigger", "said"),
    [
        ({"first_token_p99_s": 2.0}, OK._replace(first_content_s=2.1), "first_token", "first tokens took over 2 s"),
        ({"first_token_p99_s": 2.0}, OK._replace(first_content_s=None, seconds=9), "first_token", "took over 2 s"),
        ({"total_p99_s": 30.0}, OK._replace(seconds=31.0), "total", "streams took over 30 s"),
    ],
)
async def test_a_99th_percentile_that_is_too_long_takes_it_back(
    triggers: dict[str, Any], bad: Account, trigger: str, said: str
) -> None:
    """More than one in a hundred, exactly; one in a hundred is none too many."""
    watched = Watched(**triggers)
    watched.end(OK, 198)
    watched.end(bad, 2)
    assert not await watched.triggered()
    watched.end(bad)
    assert await watched.triggered()
    assert watched.metrics.of("rolled_back") == [(trigger,)]
    assert said in watched.told[0][1]


async def test_streams_that_cost_a_multiple_of_what_was_projected_take_it_back() -> None:
    """Prices are for 1,000 tokens: 100 and 200 tokens cost 0.1 and 0.6 here."""
    prices: dict[str, Any] = {"price_prompt": 1.0, "price_completion": 3.0, "projected_cost": 0.4}
    watched = Watched(cost_multiple=1.75, **prices)
    watched.end(OK, 100)
    assert not await watched.triggered()
    watched = Watched(cost_multiple=1.7, **prices)
    watched.end(OK, 100)
    assert await watched.triggered()
    assert watched.metrics.of("rolled_back") == [("cost",)]


async def test_low_ratings_take_it_back() -> None:
    """On average, and when there are enough of them; a rating that is changed counts as what it is now."""
    watched = Watched(min_rating=3.0, min_ratings=20)
    for _ in range(19):
        watched.rollback.rated(2)
    assert not await watched.triggered()
    watched.rollback.rated(5)
    for _ in range(18):
        watched.rollback.rated(3, 2)
    assert not await watched.triggered()
    watched.rollback.rated(2, 5)
    assert await watched.triggered()
    assert watched.metrics.of("rolled_back") == [("rating",)]


async def test_triggers_that_are_off_take_nothing_back() -> None:
    """0 is off."""
    watched = Watched(error_rate=0.0)
    watched.end(FAILED._replace(seconds=1e5, first_content_s=1e5, completion_tokens=10**9), 1000)
    for _ in range(100):
        watched.rollback.rated(1)
    assert not await watched.triggered()


@pytest.mark.parametrize(
    "flag", [Flag(STREAMING), Flag(STREAMING, percent=0), Flag(STREAMING, percent=50, enabled=False)]
)
async def test_what_is_not_being_rolled_out_is_not_taken_back(flag: Flag) -> None:
    """An upstream that is away must not switch streams off for ever where nobody ever rolled anything out."""
    watched = Watched(flag=flag)
    watched.end(FAILED, 1000)
    assert not await watched.triggered()


async def test_it_can_go_back_to_the_step_before() -> None:
    """Where that is asked for."""
    watched = Watched(to_previous=True, flag=Flag(STREAMING, percent=1, steps=(Step(1, 10), Step(2, 50))))
    watched.end(FAILED, 100)
    assert await watched.triggered()
    assert watched.flag.percent == 10


async def test_who_decided_something_meanwhile_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag that is taken back is the one that was judged."""
    watched = Watched()
    watched.end(FAILED, 100)
    change = watched.store.change

    async def slow(name: str, taken_back: Callable[[Flag], Flag], actor: str) -> Flag:
        await change(name, lambda flag: replace(flag, percent=60), "anna")
        return await change(name, taken_back, actor)

    monkeypatch.setattr(watched.store, "change", slow)
    assert not await watched.triggered()
    assert watched.flag.percent == 60
    assert not watched.told


async def test_variants_are_counted_by_how_their_streams_ended() -> None:
    """All endings, cancels too."""
    watched = Watched()
    watched.end(OK._replace(outcome="caller_cancel"), stream=stream_of(variant="small"))
    watched.end(OK, stream=stream_of())
    assert watched.metrics.of("variant_ended") == [("small", "caller_cancel")]


# Shared counts.


class Board:
    """Counts that several share, in the order in which they tell."""

    def __init__(self) -> None:
        self.counts: dict[int, Counter[str]] = {}
        self.away = False
        self.wanted: list[int] = []

    async def exchange(
        self, number: int, new: Mapping[str, int], wanted: Any, kept_s: float
    ) -> Mapping[int, Mapping[str, int]]:
        if self.away:
            raise GatewayError(Code.STORE_AWAY)
        self.wanted.append(len(wanted))
        self.counts.setdefault(number, Counter()).update(new)
        return {at: dict(self.counts.get(at, {})) for at in wanted}


async def test_whoever_adds_the_last_straw_takes_it_back() -> None:
    """A rate of all processes, though none of them alone has seen enough."""
    board = Board()
    one, other = Watched(shared=board), Watched(shared=board)
    one.end(FAILED, 60)
    assert not await one.triggered()
    other.end(FAILED, 39)
    assert not await other.triggered()
    one.end(FAILED)
    assert await one.triggered()


async def test_while_the_board_is_away_a_process_goes_by_its_own_counts() -> None:
    """It neither waits nor forgets."""
    board = Board()
    watched = Watched(shared=board)
    watched.end(FAILED, 60)
    assert not await watched.triggered()
    board.away = True
    watched.end(FAILED, 40)
    assert await watched.triggered()


async def test_what_is_over_is_asked_for_once() -> None:
    """Each exchange asks only for what may still grow."""
    board, clock = Board(), ManualClock(1_800_000_000.0)
    outcomes = Outcomes(300.0, board)
    for _ in range(100):
        outcomes.add({"streams": 1}, clock())
        assert await outcomes.exchange(clock())
        clock.advance(5)
    assert board.wanted[0] == 30
    assert max(board.wanted[10:]) <= 4
    assert outcomes.sum(clock(), 0.0, own=False)["streams"] == outcomes.sum(clock(), 0.0, own=True)["streams"] <= 60
    assert len(outcomes._own) <= 32
