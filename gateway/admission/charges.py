"""Charges: what a visitor's question is counted against, by its tenant's limits and the house's own."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.admission.addresses import group
from gateway.admission.tenant import OPEN, Limits
from gateway.admission.visitor import Visitor
from gateway.limits import Budget, Charge, Slots, Window

EVERYBODY = "*"
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
        self.count_everybody = self._house != NOTHING or opened.requests_per_ip > 0
        """Whether there is something to count even where no tenants are configured."""

    def of(self, visitor: Visitor) -> Charge:
        """What is counted for one question of `visitor`."""
        limits = self._opened if visitor.tenant is OPEN else visitor.tenant.limits
        return Charge(self._windows(visitor, limits), self._slots(visitor, limits), self._budgets(visitor, limits))

    def _windows(self, visitor: Visitor, limits: Limits) -> tuple[Window, ...]:
        tenant, caller = visitor.tenant.name, visitor.caller
        window_s, found = limits.window_s, list(self._house.windows)
        if limits.requests:
            found.append(Window("tenant", tenant, limits.requests, window_s))
        if limits.requests_per_user and caller.user is not None:
            found.append(Window("user", f"{tenant}/{caller.user}", limits.requests_per_user, window_s))
        if limits.requests_per_session and caller.session is not None:
            found.append(Window("session", f"{tenant}/{caller.session}", limits.requests_per_session, window_s))
        if limits.requests_per_ip and visitor.address and not self._unlimited(visitor.address):
            # Of all tenants together: somebody who holds several keys is still one machine.
            found.append(Window("ip", group(visitor.address), limits.requests_per_ip, window_s))
        return tuple(found)

    def _slots(self, visitor: Visitor, limits: Limits) -> tuple[Slots, ...]:
        tenant = visitor.tenant.name
        found = list(self._house.slots)
        if limits.concurrent:
            found.append(Slots("tenant", tenant, limits.concurrent, True))
        if limits.concurrent_per_client:
            found.append(Slots("client", f"{tenant}/{client_of(visitor)}", limits.concurrent_per_client, False))
        return tuple(found)

    def _budgets(self, visitor: Visitor, limits: Limits) -> tuple[Budget, ...]:
        if not limits.tokens_per_day:
            return self._house.budgets
        return (*self._house.budgets, Budget("tenant", visitor.tenant.name, limits.tokens_per_day))


def client_of(visitor: Visitor) -> str:
    """One client among a tenant's: its user, else its session, else where it comes from."""
    caller = visitor.caller
    if caller.user is not None:
        return f"user/{caller.user}"
    if caller.session is not None:
        return f"session/{caller.session}"
    return f"address/{visitor.address}"
