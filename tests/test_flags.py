"""Flags: how evenly a percentage is spread, that nobody who is in falls out again, and when a step is due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flags import (
    BUCKETS,
    Flag,
    RolledBack,
    Step,
    Subject,
    Variant,
    bucket_of,
    from_dict,
    is_in,
    to_dict,
    variant_for,
)
from tests.doubles import ManualClock

USERS = [Subject("acme", f"user{number}") for number in range(10_000)]
STAGES = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0)
ALICE = Subject("acme", "alice")


def rolled_to(percent: float) -> Flag:
    """The streaming flag at that percentage."""
    return Flag("streaming", percent=percent)


@pytest.mark.parametrize("percent", STAGES)
def test_a_percentage_of_10000_users_is_that_percentage_within_a_point(percent: float) -> None:
    """Users whose names are as alike as numbers are spread as evenly as any."""
    inside = sum(is_in(rolled_to(percent), user, 0.0) for user in USERS)
    assert abs(inside / len(USERS) * 100 - percent) < 1.0


def test_no_population_is_further_from_its_percentage_than_chance_allows() -> None:
    """Of 10,000 users drawn by lot, 2 populations in 100 would be more than a point off somewhere; ten are looked at.

    Each within four standard deviations, and all together within half a point.
    """
    for percent in STAGES:
        sigma = (percent * (100 - percent) / 10_000) ** 0.5
        edge, off = percent * BUCKETS / 100, []
        for tenant in range(10):
            buckets = [bucket_of("streaming", Subject(f"tenant{tenant}", user.user)) for user in USERS]
            off.append(sum(bucket < edge for bucket in buckets) / len(USERS) * 100 - percent)
        assert max(map(abs, off)) < 4 * sigma
        assert abs(sum(off) / len(off)) < 0.5


def test_none_is_nobody_and_all_is_everybody() -> None:
    """The ends are exact."""
    assert not any(is_in(rolled_to(0), user, 0.0) for user in USERS)
    assert all(is_in(rolled_to(100), user, 0.0) for user in USERS)


def test_whoever_is_in_stays_in_as_the_percentage_rises() -> None:
    """Raising it drops nobody, and lowering it lets nobody new in."""
    before: set[Subject] = set()
    for percent in STAGES:
        now = {user for user in USERS if is_in(rolled_to(percent), user, 0.0)}
        assert before < now
        before = now


@given(st.text(min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_no_name_however_strange_is_in_at_less_and_out_at_more(user: str, one: float, other: float) -> None:
    """For any name, and any two percentages."""
    low, high = sorted((one, other))
    subject = Subject("acme", user)
    assert is_in(rolled_to(low), subject, 0.0) <= is_in(rolled_to(high), subject, 0.0)
    assert 0 <= bucket_of("streaming", subject) < BUCKETS


def test_the_bucket_of_a_user_never_changes() -> None:
    """Across processes, machines and versions: this figure is what other processes reckon with."""
    assert bucket_of("streaming", ALICE) == 929
    assert bucket_of("streaming", ALICE._replace(session="s1", address="192.0.2.1")) == 929


def test_tenants_flags_and_kinds_of_name_do_not_share_an_order() -> None:
    """Else the same people would be the first everywhere, and a session could borrow a user's place."""
    others = [
        bucket_of("voice", ALICE),
        bucket_of("streaming", Subject("other", "alice")),
        bucket_of("streaming", Subject("acme", session="alice")),
        bucket_of("streaming", Subject("acme", address="alice")),
    ]
    assert len({bucket_of("streaming", ALICE), *others}) == 5


def test_who_is_named_is_in_at_no_percent_but_not_when_it_is_off() -> None:
    """Named tenants and users come first; off is off for them too."""
    flag = Flag("streaming", percent=0, tenants=("internal",), users=("acme/alice",))
    assert is_in(flag, Subject("internal", "anybody"), 0.0)
    assert is_in(flag, ALICE, 0.0)
    assert not is_in(flag, Subject("other", "alice"), 0.0)
    assert not is_in(flag, Subject("acme", session="alice"), 0.0)
    off = Flag("streaming", enabled=False, tenants=("internal",), users=("acme/alice",))
    assert not is_in(off, Subject("internal"), 0.0)
    assert not is_in(off, ALICE, 0.0)


def test_a_tenant_can_only_lower_the_percentage_for_itself() -> None:
    """The lower of the two counts."""
    assert sum(is_in(rolled_to(50), user, 0.0, at_most=10) for user in USERS) < 1100
    assert sum(is_in(rolled_to(10), user, 0.0, at_most=50) for user in USERS) < 1100


def test_a_schedule_takes_each_step_when_it_is_due() -> None:
    """1, 5, 10, 25, 50, 75, 90 and 100 percent, each an hour after the one before; before the first the base."""
    clock = ManualClock(50_000.0)
    steps = tuple(Step(clock.now + 3600 * at, percent) for at, percent in enumerate((*STAGES, 100.0), 1))
    flag = Flag("streaming", percent=0, steps=steps)
    assert flag.percent_at(clock()) == 0
    for percent in (*STAGES, 100.0):
        clock.advance(3599.9)
        assert flag.percent_at(clock()) < percent
        clock.advance(0.1)
        assert flag.percent_at(clock()) == percent
    clock.advance(1e9)
    assert flag.percent_at(clock()) == 100


def test_the_last_good_step_is_the_one_before_and_never_more() -> None:
    """What a rollback goes back to, where it does not go to 0."""
    flag = Flag("streaming", percent=1, steps=(Step(10, 5), Step(20, 50), Step(30, 20)))
    assert [flag.last_good_at(now) for now in (0, 10, 20, 30)] == [0, 1, 5, 20]
    assert Flag("streaming", percent=50).last_good_at(0) == 0


def test_variants_share_users_by_their_weights_and_keep_them_whatever_the_percentage() -> None:
    """And who is in which arm has nothing to do with who is in first."""
    arms = (Variant("a", 3), Variant("b", 1), Variant("off", 0))
    flag = Flag("streaming", percent=10, variants=arms)
    found = [variant_for(flag, user) for user in USERS]
    assert abs(found.count("a") / len(USERS) - 0.75) < 0.01
    assert found.count("a") + found.count("b") == len(USERS)
    assert found == [variant_for(Flag("streaming", percent=90, variants=arms), user) for user in USERS]
    early = [variant for user, variant in zip(USERS, found, strict=True) if is_in(flag, user, 0.0)]
    assert abs(early.count("a") / len(early) - 0.75) < 0.05
    assert variant_for(rolled_to(100), ALICE) == ""


def test_a_flag_is_the_same_when_it_has_been_told_and_read_again() -> None:
    """What stands in Redis is all of it."""
    flag = Flag(
        "streaming",
        tenants=("internal",),
        users=("acme/alice",),
        percent=1.5,
        steps=(Step(10.5, 5),),
        variants=(Variant("a", 1, "m"),),
        rolled_back=RolledBack("why", 9.0),
        version=4,
        changed_s=9.5,
    )
    assert from_dict(to_dict(flag)) == flag


def test_only_a_flag_that_lets_everybody_in_for_ever_is_open() -> None:
    """That is the path on which nobody is looked at."""
    assert Flag("streaming").open
    assert not Flag("streaming", enabled=False).open
    assert not Flag("streaming", percent=99.99).open
    assert not Flag("streaming", steps=(Step(1e12, 50),)).open
