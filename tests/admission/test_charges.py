"""Charges: everything that limits a caller is counted, and nothing that does not."""

import pytest

from gateway.admission.charges import EVERYBODY, Charges, HouseLimits
from gateway.admission.tenant import OPEN, Limits, Tenant
from gateway.admission.tenants import credential_of
from gateway.admission.visitor import Trust, Visitor
from gateway.limits import Budget, Charge, Slots, Window, clients_in
from gateway.request import Caller

ACME = Tenant("acme")
ALL = Limits(
    window_s=30,
    requests=100,
    requests_per_user=20,
    requests_per_session=10,
    requests_per_ip=30,
    concurrent=5,
    concurrent_per_client=2,
    tokens_per_day=1000,
)


def visitor(limits: Limits, user: str | None = "u", session: str | None = "s", address: str = "192.0.2.1") -> Visitor:
    """Somebody of a tenant with these limits."""
    return Visitor(Tenant("acme", limits=limits), Caller("acme", user, session), address)


def stranger(session: str = "s", address: str = "192.0.2.1", trust: Trust = Trust.STRANGER) -> Visitor:
    """Somebody who showed the public hash of that tenant, or a ticket that was made for it."""
    return visitor(ALL, None, session, address)._replace(credential=credential_of("public", ACME, "h"), trust=trust)


def clients(visitor: Visitor, free: str = "") -> list[str]:
    """Of whom the streams are counted."""
    return [slots.who for slots in charges(free=free).of(visitor).slots if slots.scope == "client"]


def charges(house: HouseLimits = HouseLimits(), free: str = "") -> Charges:  # noqa: B008  # a tuple, never changed
    """A house with these limits of its own, which knows one address well."""
    return Charges(house, unlimited=lambda address: address == free)


def test_the_open_tenant_is_counted_against_nothing() -> None:
    """So that nothing need be asked of anybody."""
    assert charges().of(Visitor(OPEN, Caller("local", "u", "s"), "127.0.0.1")) == Charge()


def test_every_limit_of_a_tenant_is_counted() -> None:
    """Windows for its requests, slots for its streams, budgets for its tokens."""
    found = charges().of(visitor(ALL))
    assert found.windows == (
        Window("tenant", "acme", 100, 30),
        Window("user", "acme/u", 20, 30),
        Window("session", "acme/u/s", 10, 30),
        Window("ip", "192.0.2.1", 30, 30),
    )
    assert found.slots == (Slots("tenant", "acme", 5, True), Slots("client", "acme/user/u", 2, False))
    assert found.budgets == (Budget("tenant", "acme", 1000),)


def test_the_limits_of_the_house_hold_for_everybody() -> None:
    """Also for a tenant without any."""
    house = HouseLimits(window_s=60, requests=7, concurrent=3, tokens_per_day=9)
    found = charges(house).of(visitor(Limits()))
    assert found == Charge(
        (Window("global", EVERYBODY, 7, 60),), (Slots("global", EVERYBODY, 3, True),), (Budget("global", EVERYBODY, 9),)
    )


def test_an_address_on_the_list_is_not_counted() -> None:
    """But all else of it is."""
    found = charges(free="192.0.2.1").of(visitor(ALL))
    assert [window.scope for window in found.windows] == ["tenant", "user", "session"]


def test_who_says_no_address_is_not_counted_by_it() -> None:
    """All who come without one would be one."""
    assert [window.scope for window in charges().of(visitor(ALL, address="")).windows] == ["tenant", "user", "session"]


@pytest.mark.parametrize(
    ("user", "session", "who"),
    [
        ("u", "s", "acme/user/u"),
        (None, "s", "acme/session/s"),
        (None, None, "acme/address/192.0.2.1"),
        (None, "user/u", "acme/session/user/u"),
    ],
)
def test_a_client_is_its_user_else_its_session_else_its_address(
    user: str | None, session: str | None, who: str
) -> None:
    """And no name of one can be that of another."""
    assert charges().of(visitor(ALL, user, session)).slots[-1].who == who


@pytest.mark.parametrize("trust", [Trust.STRANGER, Trust.PROVED], ids=["by its hash", "by a ticket"])
@pytest.mark.parametrize(
    ("address", "who"), [("192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64")], ids=["IPv4", "IPv6"]
)
def test_a_stranger_is_where_it_comes_from_too(trust: Trust, address: str, who: str) -> None:
    """Whatever sessions it makes up: they cost it nothing."""
    assert clients(stranger("one", address, trust)) == ["acme/session/one", f"acme/address/{who}"]
    assert clients(stranger("two", address, trust))[1:] == [f"acme/address/{who}"]


def test_strangers_of_nobody_knows_where_are_their_sessions() -> None:
    """All of them would be one; and so are those behind an address that is known for many."""
    assert clients(stranger(address="")) == ["acme/session/s"]
    assert clients(stranger(), free="192.0.2.1") == ["acme/session/s"]


def test_what_is_gone_on_with_is_counted_as_it_was() -> None:
    """Its caller's address is not known there, nor whether it was a stranger."""
    elsewhere = visitor(ALL, None, None, address="")
    first = charges().of(visitor(ALL, None, None))
    assert clients_in(first) == ("acme/address/192.0.2.1",)
    assert charges().of(elsewhere, clients_in(first)).slots == first.slots
