"""Preferences at the door: who goes before whom, and how often a store is asked."""

import pytest

from gateway.admission.preferences import BELIEVED_S, USERS_MAX, Likings, merged, preferring
from gateway.errors import Code, GatewayError
from gateway.request import Caller, Caps, Preferences
from gateway.stages.liked import caps_for
from gateway.stores.sessions_memory import MemoryPreferences
from tests.doubles import ManualClock, question

ALICE = Caller("acme", "alice")
BATCHED, CONCISE, QUIET = Preferences("batched"), Preferences(response="concise"), Preferences(metadata=False)


class Counted(MemoryPreferences):
    """Counts how often it is read; away while it is told to be."""

    def __init__(self) -> None:
        super().__init__(max_users=100_000, ttl_s=1e9)
        self.reads = 0
        self.away = False

    async def read(self, owner: Caller) -> Preferences | None:
        self.reads += 1
        if self.away:
            raise GatewayError(Code.STORE_AWAY)
        return await super().read(owner)


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        ((), None),
        ((None, Preferences(), None), None),
        ((BATCHED,), BATCHED),
        ((BATCHED, CONCISE, QUIET), Preferences("batched", "concise", False)),
        ((Preferences("realtime"), BATCHED), Preferences("realtime")),
        ((None, Preferences("", "detailed", True), Preferences("batched", "concise", False)),
         Preferences("batched", "detailed", True)),
    ],
)  # fmt: skip
def test_the_first_who_says_something_is_heard(said: tuple[Preferences | None, ...], holds: Preferences | None) -> None:
    """One by one: who says nothing of one thing leaves it to the next."""
    assert merged(*said) == holds


def test_a_question_of_which_nobody_has_said_anything_is_the_same_object() -> None:
    """Nothing is made anew for it; an empty preference is none."""
    plain = question()
    assert preferring(plain, None, None) is plain
    assert preferring(question(preferences=Preferences()), None).preferences is None
    assert preferring(question(preferences=QUIET), BATCHED).preferences == Preferences("batched", "", False)


@pytest.mark.parametrize(
    ("caps", "words"), [(Caps(), 150), (Caps(words=1000), 150), (Caps(words=20), 20), (Caps(words=150), 150)]
)
def test_concise_is_at_most_150_words_and_leaves_other_bounds(caps: Caps, words: int) -> None:
    """The lower bound of words holds."""
    bounds = Caps(caps.words, 5, 6, 7.0)
    assert caps_for(CONCISE, bounds) == Caps(words, 5, 6, 7.0)
    assert caps_for(Preferences(response="detailed"), bounds) == bounds


async def test_a_store_is_asked_once_in_a_while_for_each_user() -> None:
    """Also of users who like nothing: they are most of them."""
    store, clock = Counted(), ManualClock()
    likings = Likings(store, believed_s=BELIEVED_S, clock=clock)
    for _ in range(3):
        assert await likings.of(ALICE) == Preferences()
    assert store.reads == 1
    await store.write(ALICE, BATCHED)
    clock.advance(BELIEVED_S)
    assert await likings.of(ALICE) == BATCHED
    assert await likings.of(Caller("other", "alice")) == Preferences()
    assert store.reads == 3


async def test_what_is_set_here_holds_here_at_once() -> None:
    """Whatever was believed before."""
    likings = Likings(Counted(), believed_s=BELIEVED_S, clock=ManualClock())
    assert await likings.of(ALICE) == Preferences()
    await likings.write(ALICE, QUIET)
    assert await likings.of(ALICE) == await likings.read(ALICE) == QUIET


async def test_a_store_that_is_away_holds_nobody_up() -> None:
    """It is asked again after a while, and not for each question; who asks what is kept hears of it."""
    store, clock = Counted(), ManualClock()
    likings = Likings(store, believed_s=BELIEVED_S, clock=clock)
    await store.write(ALICE, BATCHED)
    store.away = True
    assert [await likings.of(ALICE) for _ in range(3)] == [Preferences()] * 3
    assert store.reads == 1
    with pytest.raises(GatewayError, match="STORE_AWAY"):
        await likings.read(ALICE)
    store.away = False
    clock.advance(BELIEVED_S)
    assert await likings.of(ALICE) == BATCHED


async def test_a_process_knows_a_bounded_number_of_users() -> None:
    """However many ask."""
    likings = Likings(Counted(), believed_s=BELIEVED_S, clock=ManualClock())
    for number in range(USERS_MAX + 500):
        await likings.of(Caller("acme", f"user {number}"))
    assert len(likings._known) == USERS_MAX


async def test_preferences_are_forgotten_in_time_and_for_others() -> None:
    """In memory too."""
    clock = ManualClock()
    store = MemoryPreferences(max_users=4, ttl_s=90, clock=clock)
    for name in ("a", "b", "c"):
        await store.write(Caller("acme", name), BATCHED)
        clock.advance(40)
    assert [await store.read(Caller("acme", name)) for name in ("a", "b", "c")] == [None, BATCHED, BATCHED]
    clock.advance(10)
    assert [await store.read(Caller("acme", name)) for name in ("b", "c")] == [None, BATCHED]
