"""Charges: what a visitor's question is counted against, by its tenant's limits and the house's own."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.admission.addresses import group
from gateway.admission.tenant import OPEN, Limits, Tenant
from gateway.admission.visitor import Visitor
from gateway.limits import CLIENT, Budget, Charge, Slots, Window

EVERYBODY = "*"
PUBLIC = "public:"
"""How the credentials begin of those who showed a tenant's public hash, or a ticket that was made for it."""

NOTHING = Charge()
NO_LIMITS = Limits()


class HouseLimits(NamedTuple):
    """What all tenants together may ask; 0 is no limit. `window_s` is in seconds, tokens are of a day."""

    window_s: float = 60.0
    requests: int = 0
    concurrent: int = 0
    tokens_per_day: int = 0


class Charges:
    """Makes charges. `opened` are the limits of the open tenant, where no others are configured; `unlimited` says of an
    address whether it is free of the limit by address.
    """

    def __init__(
        self, house: HouseLimits, *, opened: Limits = NO_LIMITS, unlimited: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._opened = opened
        self._unlimited = unlimited
        windows = (Window("global", EVERYBODY, house.requests, house.window_s),) if house.requests else ()
        slots = (Slots("global", EVERYBODY, house.concurrent, True),) if house.concurrent else ()
        budgets = (Budget("global", EVERYBODY, house.tokens_per_day),) if house.tokens_per_day else ()
        self._house = Charge(windows, slots, budgets)
        self._plans: dict[str, Plan] = {}
        self.count_everybody = self._house != NOTHING or opened.requests_per_ip > 0
        """Whether there is something to count even where no tenants are configured."""

    def of(self, visitor: Visitor, clients: tuple[str, ...] = ()) -> Charge:
        """What is counted for one question of `visitor`, who was counted as `clients` where it is gone on with."""
        tenant, caller = visitor.tenant, visitor.caller
        plan = self._plans.get(tenant.name)
        if plan is None or plan.tenant is not tenant:
            plan = self._plans[tenant.name] = self._plan(tenant)
        limits, windows, slots = plan.limits, plan.windows, plan.slots
        if limits.requests_per_user and caller.user is not None:
            windows += (Window("user", f"{tenant.name}/{caller.user}", limits.requests_per_user, limits.window_s),)
        if limits.requests_per_session and caller.session is not None:
            # Users may name their sessions alike.
            who = f"{tenant.name}/{caller.user or ''}/{caller.session}"
            windows += (Window("session", who, limits.requests_per_session, limits.window_s),)
        if limits.requests_per_ip and visitor.address and not self._unlimited(visitor.address):
            # Of all tenants together: somebody who holds several keys is still one machine.
            windows += (Window("ip", group(visitor.address), limits.requests_per_ip, limits.window_s),)
        if limits.concurrent_per_client:
            for who in clients or self._clients_of(visitor):
                slots += (Slots(CLIENT, who, limits.concurrent_per_client, False),)
        return Charge(windows, slots, plan.budgets)

    def _clients_of(self, visitor: Visitor) -> tuple[str, ...]:
        """One client among a tenant's: its user, else its session, else where it comes from.

        A stranger makes up as many sessions as it likes: it is where it comes from too.
        """
        tenant, address = visitor.tenant.name, visitor.address
        user, session = visitor.caller.user, visitor.caller.session
        if user is not None:
            return (f"{tenant}/user/{user}",)
        if session is None:
            return (f"{tenant}/address/{group(address)}",)
        if visitor.credential.startswith(PUBLIC) and address and not self._unlimited(address):
            return f"{tenant}/session/{session}", f"{tenant}/address/{group(address)}"
        return (f"{tenant}/session/{session}",)

    def _plan(self, tenant: Tenant) -> "Plan":
        """What is the same for all of a tenant's questions."""
        limits = self._opened if tenant is OPEN else tenant.limits
        (windows, slots, budgets), name = self._house, tenant.name
        if limits.requests:
            windows += (Window("tenant", name, limits.requests, limits.window_s),)
        if limits.concurrent:
            slots += (Slots("tenant", name, limits.concurrent, True),)
        if limits.tokens_per_day:
            budgets += (Budget("tenant", name, limits.tokens_per_day),)
        return Plan(tenant, limits, windows, slots, budgets)


class Plan(NamedTuple):
    """What is counted for every question of a tenant, and the limits by which more is counted for some."""

    tenant: Tenant
    limits: Limits
    windows: tuple[Window, ...]
    slots: tuple[Slots, ...]
    budgets: tuple[Budget, ...]
