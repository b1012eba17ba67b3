"""MemorySessions and MemoryPreferences: conversations and the likings of users, kept in this process."""

import time
from collections.abc import Callable

from gateway.request import Caller, Preferences
from gateway.sessions import Exchange, SessionBounds, fitted, trimmed
from gateway.stores.shelf import VALUE_BYTES, Shelf

Name = tuple[str, str | None, str]
"""Tenant, user, session."""


class MemorySessions:
    """A SessionStore for one process. All conversations together take `memory_bytes` at most, those of
    one tenant half of it."""

    def __init__(
        self, bounds: SessionBounds, *, memory_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds = bounds
        self._shelf: Shelf[Name, list[Exchange]] = Shelf(
            max_values=bounds.max_sessions,
            max_bytes=memory_bytes,
            ttl_s=bounds.ttl_s,
            clock=clock,
            owner_of=_tenant,
        )

    @property
    def bytes(self) -> int:
        """Memory that all of it takes, about."""
        return self._shelf.bytes

    async def read(self, owner: Caller, session: str) -> list[Exchange]:
        """What was said, the oldest first."""
        return list(self._shelf.get(_name(owner, session)) or ())

    def write(self, owner: Caller, session: str, exchange: Exchange) -> None:
        """Add a turn at the end, once."""
        name = _name(owner, session)
        known = self._shelf.get(name) or []
        if any(each.sid == exchange.sid for each in known):
            return
        kept = trimmed([*known, fitted(exchange, self._bounds.max_bytes)], self._bounds)
        self._shelf.put(name, kept, sum(each.size for each in kept))

    def unwritten(self, owner: Caller, session: str) -> list[Exchange]:
        """None: nobody else is to see them."""
        return []

    async def delete(self, owner: Caller, session: str) -> bool:
        """Forget it."""
        return self._shelf.pop(_name(owner, session)) is not None

    async def close(self) -> None:
        """It ends with its process."""


class MemoryPreferences:
    """A PreferenceStore for one process: of `max_users`, half of them of one tenant, each kept for `ttl_s` seconds after it was said."""

    def __init__(self, *, max_users: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._shelf: Shelf[tuple[str, str | None], Preferences] = Shelf(
            max_values=max_users, max_bytes=max_users * 2 * VALUE_BYTES, ttl_s=ttl_s, clock=clock, owner_of=_tenant
        )

    async def read(self, owner: Caller) -> Preferences | None:
        """What the user said last."""
        return self._shelf.get((owner.tenant, owner.user))

    async def write(self, owner: Caller, preferences: Preferences) -> None:
        """In place of what was said before."""
        self._shelf.put((owner.tenant, owner.user), preferences)


def _tenant(name: tuple[str, *tuple[str | None, ...]]) -> str:
    return name[0]


def _name(owner: Caller, session: str) -> Name:
    return (owner.tenant, owner.user, session)
