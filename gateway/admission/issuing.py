"""Issuing: how many tickets whoever asks for them may have, so that no page takes those of all others."""

from gateway.admission.charges import Charges
from gateway.admission.refusal import refusal
from gateway.admission.standing import Standings
from gateway.admission.visitor import Trust, Visitor
from gateway.limits import Charge, Limiter, Window

_APART = "tickets of "
"""Before whom a window is of: no tenant's name has a blank in it."""


class Issuing:
    """Counts tickets as requests are counted by address, session and user, but apart from them: with each ticket comes
    a stream, which is counted when it is opened.
    """

    def __init__(self, limiter: Limiter, charges: Charges, standings: Standings) -> None:
        self._limiter = limiter
        self._charges = charges
        self._standings = standings

    async def count(self, visitor: Visitor) -> None:
        """Count one ticket for `visitor`. Raises `RATE_LIMITED` where that is one too many."""
        windows = tuple(
            window._replace(who=_APART + window.who)
            for window in self._charges.of(visitor).windows
            if _counts(window, visitor)
        )
        if not windows:
            return
        verdict = await self._limiter.charge("tickets", Charge(windows), may_wait=False)
        if verdict.refused is not None:
            raise refusal(verdict, self._standings)


def _counts(window: Window, visitor: Visitor) -> bool:
    # A backend asks for all of its users from one address.
    return window.scope in ("session", "user") or (window.scope == "ip" and visitor.trust is not Trust.BELIEVED)
