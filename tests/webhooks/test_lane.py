"""A lane: in order, again while it may help, never more than may wait, and never for ever at a dead door."""

import asyncio
import random
from collections.abc import Iterator, Mapping

import pytest

from gateway.webhooks import lane as lanes
from gateway.webhooks.lane import AT_ONCE, DELAYS_S, RETRY_AFTER_MAX_S, Lane, Policy
from gateway.webhooks.message import Message
from gateway.webhooks.post import RESULTS, Reply
from gateway.webhooks.target import Target
from tests.doubles import ManualLoop, RecordingMetrics

TARGET = Target("https://hooks.example.com/x", (b"k" * 32,), frozenset())
DOWN = Reply("unreachable")


class ScriptedPost:
    """Answers with `replies` in turn, then with `usual`; with `hold`, only when it is let go."""

    def __init__(self, loop: ManualLoop) -> None:
        self.loop = loop
        self.replies: list[Reply | Exception] = []
        self.usual = Reply("ok")
        self.hold: asyncio.Event | None = None
        self.sent: list[tuple[float, str]] = []
        self.urls: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.at_once = self.most_at_once = 0

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.sent.append((round(self.loop.time() - 1000), headers["webhook-id"]))
        self.urls.append(url)
        self.headers.append(headers)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.at_once -= 1
        reply = self.replies.pop(0) if self.replies else self.usual
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def close(self) -> None:
        """Nothing is held."""

    @property
    def ids(self) -> list[str]:
        """What was sent, in order."""
        return [name for _, name in self.sent]


class Stage:
    """A lane on a loop whose time is moved by hand."""

    def __init__(self, loop: ManualLoop, *, attempts: int = 6, max_waiting: int = 100) -> None:
        self.loop = loop
        self.post = ScriptedPost(loop)
        self.metrics = RecordingMetrics()
        self.target: Target | None = TARGET
        self.lane = Lane(
            "acme", lambda: self.target, self.post, Policy(attempts, max_waiting), self.metrics, now_s=loop.time
        )

    def push(self, *names: str, about: str = "") -> None:
        """Messages of these ids; each is about something else unless `about` says what."""

        async def push() -> None:
            for name in names:
                self.lane.push(Message(name, "stream.opened", about or name, b"{}"))

        self.loop.run(push())
        self.loop.turn()

    @property
    def outcomes(self) -> dict[str, int]:
        """How many of each there were."""
        counts: dict[str, int] = {}
        for outcome, count in self.metrics.of("webhooks_ended"):
            counts[outcome] = counts.get(outcome, 0) + count
        return counts

    @property
    def waiting(self) -> int:
        """What the gauge says."""
        return sum(change for (change,) in self.metrics.of("webhooks_waiting"))


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[ManualLoop]:
    """Its time is moved by hand; delays are as they are written."""
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)
    loop = ManualLoop()
    yield loop
    loop.close()


def test_messages_about_one_thing_follow_one_another(loop: ManualLoop) -> None:
    """Also where the first of them has to be sent again, and others overtake it."""
    stage = Stage(loop)
    stage.post.replies = [DOWN]
    stage.push("a1", "a2", about="a")
    stage.push("b1", "b2", about="b")
    assert stage.post.ids == ["a1", "b1", "b2"]
    loop.advance(1)
    assert stage.post.ids == ["a1", "b1", "b2", "a1", "a2"]
    assert stage.outcomes == {"delivered": 4}
    assert stage.waiting == 0


def test_at_most_a_few_are_sent_at_once(loop: ManualLoop) -> None:
    """However many wait; those that wait go when there is room."""
    stage = Stage(loop)
    stage.post.hold = asyncio.Event()
    stage.push(*(f"m{number}" for number in range(20)))
    assert stage.post.at_once == AT_ONCE
    stage.post.hold.set()
    loop.turn(100)
    assert stage.post.ids == [f"m{number}" for number in range(20)]
    assert stage.post.most_at_once == AT_ONCE


def test_a_message_is_sent_again_with_longer_and_longer_pauses_then_given_up(loop: ManualLoop) -> None:
    """1 s, 5 s, 30 s, 2 min, 10 min: the sixth attempt is the last one."""
    stage = Stage(loop)
    stage.post.usual = Reply("failing")
    stage.push("m")
    loop.advance(3600, step_s=1)
    assert [at for at, _ in stage.post.sent] == [0, 1, 6, 36, 156, 756]
    assert stage.outcomes == {"failed": 1}
    assert stage.waiting == 0


def test_pauses_differ_so_that_not_all_come_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By up to a fifth."""
    pauses = {lanes.delay_s(1) for _ in range(50)}
    assert len(pauses) > 10
    assert all(DELAYS_S[1] * 0.8 <= pause <= DELAYS_S[1] * 1.2 for pause in pauses)
    assert lanes.delay_s(99) <= DELAYS_S[-1] * 1.2


@pytest.mark.parametrize("result", sorted({*RESULTS} - {"ok", "gone", "refused"}))
def test_whatever_may_pass_is_sent_again(loop: ManualLoop, result: str) -> None:
    """And delivered once it does."""
    stage = Stage(loop)
    stage.post.replies = [Reply(result)]
    stage.push("m")
    loop.advance(1)
    assert stage.post.ids == ["m", "m"]
    assert stage.metrics.of("webhook_attempt") == [(result,), ("ok",)]
    assert stage.outcomes == {"delivered": 1}


def test_each_attempt_is_signed_when_it_is_made_and_keeps_its_id(loop: ManualLoop) -> None:
    """A receiver takes only what was signed within the last minutes, and knows by its id what it has."""
    stage = Stage(loop)
    stage.post.replies = [DOWN, DOWN]
    stage.push("m")
    loop.advance(6, step_s=1)
    assert [headers["webhook-timestamp"] for headers in stage.post.headers] == ["1000", "1001", "1006"]
    assert {headers["webhook-id"] for headers in stage.post.headers} == {"m"}
    assert len({headers["webhook-signature"] for headers in stage.post.headers}) == 3


def test_what_is_refused_is_not_sent_again(loop: ManualLoop) -> None:
    """What follows is sent all the same."""
    stage = Stage(loop)
    stage.post.replies = [Reply("refused")]
    stage.push("m1", "m2")
    loop.advance(3600, step_s=60)
    assert stage.post.ids == ["m1", "m2"]
    assert stage.outcomes == {"refused": 1, "delivered": 1}


def test_a_receiver_that_is_gone_is_asked_no_more_until_it_has_another_url(loop: ManualLoop) -> None:
    """410: all that waits for it is given up."""
    stage = Stage(loop)
    stage.post.replies = [Reply("gone")]
    stage.push("m1", "m2", about="a")
    stage.push("m3")
    assert stage.post.ids == ["m1"]
    assert stage.waiting == 0
    stage.target = TARGET._replace(url="https://hooks.example.com/new")
    stage.push("m4")
    assert stage.post.ids == ["m1", "m4"]
    assert stage.post.urls[-1].endswith("/new")


@pytest.mark.parametrize("result", ["busy", "failing"])
def test_a_receiver_that_asks_to_be_left_alone_is(loop: ManualLoop, result: str) -> None:
    """`Retry-After` holds for everything that waits for it, and is capped."""
    stage = Stage(loop)
    stage.post.replies = [Reply(result, 40.0), Reply(result, 1e9)]
    stage.push("m1")
    stage.push("m2")
    loop.advance(39, step_s=1)
    assert stage.post.ids == ["m1"]
    loop.advance(2, step_s=1)
    assert stage.post.sent[1:] == [(40, "m1"), (40, "m2")]
    loop.advance(RETRY_AFTER_MAX_S, step_s=10)
    assert stage.outcomes == {"delivered": 2}


def test_a_dead_target_gets_one_attempt_at_a_time_with_pauses_between(loop: ManualLoop) -> None:
    """However many messages wait for it, and however many more come."""
    stage = Stage(loop)
    stage.post.usual = DOWN
    stage.push("m1", "m2", "m3")
    loop.advance(1)
    before = len(stage.post.sent)
    for number in range(50):
        stage.push(f"n{number}")
    assert len(stage.post.sent) == before
    loop.advance(700, step_s=1)
    assert len(stage.post.sent) <= 3 + len(DELAYS_S)


def test_when_a_dead_target_answers_all_that_waits_is_sent_in_order(loop: ManualLoop) -> None:
    """At once, not each when its own pause is over."""
    stage = Stage(loop)
    stage.post.replies = [DOWN] * 6
    names = [f"m{number}" for number in range(10)]
    stage.push(*names)
    loop.advance(700, step_s=1)
    delivered = list(dict.fromkeys(reversed(stage.post.ids)))[::-1]
    assert delivered == names
    assert stage.outcomes == {"delivered": 10}


def test_a_message_that_alone_is_not_taken_holds_up_no_other(loop: ManualLoop) -> None:
    """Its receiver answers, so it is not dead."""
    stage = Stage(loop)
    stage.post.replies = [Reply("failing")]
    stage.push("poison", "m1", "m2")
    assert stage.post.ids == ["poison", "m1", "m2"]
    assert stage.outcomes == {"delivered": 2}


def test_beyond_what_may_wait_the_oldest_is_dropped_and_counted(loop: ManualLoop) -> None:
    """What is on its way is not: it may have arrived."""
    stage = Stage(loop, max_waiting=10)
    stage.post.hold = asyncio.Event()
    stage.push(*(f"m{number}" for number in range(25)))
    assert stage.waiting == 10
    assert stage.outcomes == {"dropped": 15}
    stage.post.hold.set()
    loop.turn(100)
    assert stage.post.ids == [f"m{number}" for number in (0, 1, 2, 3, 19, 20, 21, 22, 23, 24)]
    assert stage.outcomes == {"dropped": 15, "delivered": 10}
    assert stage.waiting == 0


def test_secrets_and_url_may_change_between_two_attempts(loop: ManualLoop) -> None:
    """What waits is signed and sent as the target is then."""
    stage = Stage(loop)
    stage.post.replies = [DOWN]
    stage.push("m")
    stage.target = Target("https://new.example.com/", (b"n" * 32, b"k" * 32), frozenset())
    loop.advance(1)
    assert stage.post.urls == [TARGET.url, "https://new.example.com/"]
    assert [headers["webhook-signature"].count("v1,") for headers in stage.post.headers] == [1, 2]


def test_what_waits_for_a_target_that_was_taken_away_is_dropped(loop: ManualLoop) -> None:
    """Nobody wants it any more."""
    stage = Stage(loop)
    stage.post.replies = [DOWN]
    stage.push("m")
    stage.target = None
    loop.advance(1)
    assert stage.post.ids == ["m"]
    assert stage.outcomes == {"dropped": 1}


def test_a_fault_of_ours_costs_no_more_than_an_attempt(loop: ManualLoop) -> None:
    """It is logged, and the message is sent again."""
    stage = Stage(loop)
    stage.post.replies = [RuntimeError("ours")]
    stage.push("m")
    loop.advance(1)
    assert stage.outcomes == {"delivered": 1}


def test_at_the_end_what_waits_is_lost_and_counted(loop: ManualLoop) -> None:
    """With what is on its way; nothing is sent after it."""
    stage = Stage(loop)
    stage.post.hold = asyncio.Event()
    stage.push(*(f"m{number}" for number in range(6)))
    assert loop.run(stage.lane.close()) == 6
    assert stage.outcomes == {"lost": 6}
    assert stage.waiting == 0
    loop.advance(3600, step_s=600)
    assert len(stage.post.ids) == AT_ONCE


def test_hope_ends_where_the_next_attempt_comes_too_late(loop: ManualLoop) -> None:
    """A shutdown does not wait for it."""
    stage = Stage(loop)
    stage.post.usual = Reply("busy", 100.0)
    assert not stage.lane.hopeful(loop.time() + 5)
    stage.push("m")
    assert not stage.lane.hopeful(loop.time() + 5)
    assert stage.lane.hopeful(loop.time() + 101)
    stage.post.hold = asyncio.Event()
    loop.advance(100)
    assert stage.lane.hopeful(loop.time() + 5)
    loop.run(stage.lane.close())


def test_what_waited_longest_for_a_dead_target_waits_no_longer_than_the_others(loop: ManualLoop) -> None:
    """The first message that is taken makes all of them due."""
    stage = Stage(loop)
    stage.post.replies = [DOWN] * 3
    stage.push("m0")
    loop.advance(6, step_s=1)
    stage.push("m1")
    loop.advance(1)
    assert stage.post.sent == [(0, "m0"), (1, "m0"), (6, "m0"), (7, "m1"), (7, "m0")]
