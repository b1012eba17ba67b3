"""Rollout: who is refused with which words, what is never refused, and who is in which arm of an experiment."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.admission.rollout import Rollout
from gateway.admission.tenant import Features, Tenant
from gateway.admission.visitor import Visitor
from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag, Step, Variant
from gateway.request import Caller
from gateway.stores.flags_memory import MemoryFlags
from tests.doubles import ManualClock, question

ASKED = question()


def visitor(user: str = "alice", **features: Any) -> Visitor:
    """A user of a tenant with these features."""
    return Visitor(Tenant("acme", Features(**features)), Caller("acme", user))


def rollout(clock: ManualClock | None = None, *, switch: bool = True, **flag: Any) -> Rollout:
    """A rollout by one flag."""
    clock = clock or ManualClock()
    return Rollout(MemoryFlags([Flag(STREAMING, **flag)], clock=clock), enabled=switch, clock=clock)


def is_in(rolled: Rollout, who: Visitor) -> bool:
    """Whether that visitor gets streams."""
    try:
        rolled.prepare(who, ASKED, streamed=True)
    except GatewayError:
        return False
    return True


def test_where_nothing_is_rolled_out_everybody_gets_streams() -> None:
    """And the question goes on as it is."""
    assert rollout().prepare(visitor(), ASKED, streamed=True) is ASKED


@pytest.mark.parametrize(
    ("flag", "features", "said"),
    [
        ({"percent": 0}, {}, "not yet on for this caller"),
        ({"enabled": False}, {}, "is switched off"),
        ({}, {"streaming": False}, "not switched on for this tenant"),
        ({}, {"streaming_percent": 0}, "not yet on for this caller"),
    ],
)
def test_who_is_outside_is_told_of_the_plain_twin(flag: dict[str, Any], features: dict[str, Any], said: str) -> None:
    """503, not to be asked again in the same way; the words say what to ask instead."""
    with pytest.raises(GatewayError) as refused:
        rollout(**flag).prepare(visitor(**features), ASKED, streamed=True)
    error = refused.value
    assert (error.code, error.status, error.retryable) == (Code.STREAMING_DISABLED, 503, False)
    assert said in error.message
    assert "Accept: application/json" in error.message
    assert rollout(**flag).prepare(visitor(**features), ASKED, streamed=False) is ASKED


def test_this_process_s_own_switch_wins_over_every_flag() -> None:
    """Also over named tenants; the plain answer is still given."""
    rolled = rollout(switch=False, tenants=("acme",))
    with pytest.raises(GatewayError, match="switched off"):
        rolled.prepare(visitor(), ASKED, streamed=True)
    assert rolled.prepare(visitor(), ASKED, streamed=False) is ASKED


def test_the_same_user_is_in_from_a_step_on_and_stays_in() -> None:
    """Users come in as steps are due, and none goes out again."""
    clock = ManualClock(0.0)
    rolled = rollout(clock, percent=1, steps=tuple(Step(at, at / 10) for at in range(50, 1001, 50)))
    inside: set[str] = set()
    for _ in range(21):
        now = {user for user in map(str, range(200)) if is_in(rolled, visitor(user))}
        assert inside <= now
        inside = now
        clock.advance(50)
    assert len(inside) == 200


async def test_a_flag_that_goes_to_0_is_heard_with_the_next_request() -> None:
    """Nothing of it is remembered between two requests."""
    store = MemoryFlags([Flag(STREAMING)])
    rolled = Rollout(store, enabled=True)
    assert is_in(rolled, visitor())
    await store.change(STREAMING, lambda flag: replace(flag, percent=0), "anna")
    assert not is_in(rolled, visitor())


def test_an_arm_of_an_experiment_marks_the_question_and_may_change_its_model() -> None:
    """Sticky, for plain answers too."""
    arms = (Variant("control", 1), Variant("small", 1, "tiny-model"))
    rolled = rollout(variants=arms)
    seen = set()
    for user in map(str, range(50)):
        answers = [rolled.prepare(visitor(user), ASKED, streamed=streamed) for streamed in (True, False, True)]
        assert answers[0] == answers[1] == answers[2]
        seen.add((answers[0].variant, answers[0].model))
    assert seen == {("control", "m"), ("small", "tiny-model")}


@pytest.mark.parametrize(
    ("models", "model", "variant", "answers"),
    [(("own",), "other", "", "own"), (("own", "other"), "other", "b", "other"), (("own",), "", "b", "own")],
    ids=["none of the tenant's", "one of them", "no other"],
)
def test_an_experiment_gives_no_tenant_a_model_that_it_may_not_use(
    models: tuple[str, ...], model: str, variant: str, answers: str
) -> None:
    """It is no part of it then, and is answered by what it asked for."""
    rolled = rollout(variants=(Variant("b", 1.0, model),))
    asked = rolled.prepare(visitor(models=models), question(model="own"), streamed=True)
    assert (asked.variant, asked.model) == (variant, answers)
