"""Issuing: a ticket is counted by whoever asks for it, and apart from the stream that it opens."""

import pytest

from gateway.admission.charges import Charges, HouseLimits
from gateway.admission.issuing import Issuing
from gateway.admission.standing import Standings
from gateway.admission.tenant import OPEN, Limits, Tenant
from gateway.admission.visitor import Trust, Visitor
from gateway.errors import Code, GatewayError
from gateway.request import Caller
from gateway.stores.limits_memory import MemoryLimiter
from tests.doubles import ManualClock

CLOCK = ManualClock(1_800_000_000.0)
CHARGES = Charges(HouseLimits())


def issuing(limiter: MemoryLimiter) -> Issuing:
    """With this count."""
    return Issuing(limiter, CHARGES, Standings(clock=CLOCK))


@pytest.fixture
def limiter() -> MemoryLimiter:
    """Which has counted nothing yet."""
    return MemoryLimiter(clock=CLOCK)


def visitor(
    limits: Limits, *, trust: Trust = Trust.STRANGER, user: str | None = None, session: str | None = None
) -> Visitor:
    """Somebody of a tenant with these limits."""
    return Visitor(Tenant("acme", limits=limits), Caller("acme", user, session), "192.0.2.1", trust=trust)


@pytest.mark.parametrize(
    "who",
    [
        visitor(Limits(requests_per_ip=3)),
        visitor(Limits(requests_per_ip=3), trust=Trust.PROVED, user="alice"),
        visitor(Limits(requests_per_session=3), session="s1"),
        visitor(Limits(requests_per_user=3), trust=Trust.BELIEVED, user="alice"),
    ],
)
async def test_only_so_many_are_made_for_one_caller_in_a_while(limiter: MemoryLimiter, who: Visitor) -> None:
    """Then 429, with how it stands and when to come again; when the window is over there are more."""
    desk = issuing(limiter)
    for _ in range(3):
        await desk.count(who)
    with pytest.raises(GatewayError) as refused:
        await desk.count(who)
    error = refused.value
    assert (error.code, error.status) == (Code.RATE_LIMITED, 429)
    assert error.headers["X-RateLimit-Limit"] == "3"
    assert 0 < (error.retry_after_s or 0) <= 120
    CLOCK.advance(121)
    await desk.count(who)


async def test_a_backend_makes_them_for_all_of_its_users_from_one_address(limiter: MemoryLimiter) -> None:
    """It is known by its key; its users' limits hold all the same."""
    for number in range(5):
        await issuing(limiter).count(visitor(Limits(requests_per_ip=3), trust=Trust.BELIEVED, user=f"u{number}"))


async def test_a_ticket_takes_nothing_from_the_stream_that_it_opens(limiter: MemoryLimiter) -> None:
    """Whoever may ask once may have its ticket and its stream."""
    who = visitor(Limits(requests_per_ip=1, requests_per_session=1, requests=1, concurrent=1), session="s1")
    await issuing(limiter).count(who)
    verdict = await limiter.charge("sid", CHARGES.of(who), may_wait=False)
    assert verdict.refused is None
    assert verdict.has_slots


async def test_no_tenant_is_counted_for_what_another_ones_sessions_are_called(limiter: MemoryLimiter) -> None:
    """The names of windows for tickets cannot be made of others."""
    await issuing(limiter).count(visitor(Limits(requests_per_session=1), session="s1"))
    for name in ("tickets", "tickets of acme"):
        tenant = Tenant(name, limits=Limits(requests_per_session=1))
        verdict = await limiter.charge(
            "sid", CHARGES.of(Visitor(tenant, Caller(name, None, "acme/s1"))), may_wait=False
        )
        assert verdict.refused is None


async def test_where_nothing_is_limited_nobody_is_asked() -> None:
    """As on a developer's machine."""

    class Nobody(MemoryLimiter):
        async def charge(self, *_: object, **__: object) -> None:  # type: ignore[override]  # it is never called
            raise AssertionError

    await issuing(Nobody()).count(Visitor(OPEN, Caller("local"), "127.0.0.1"))
