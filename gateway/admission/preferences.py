"""Preferences at the door: the request's over the user's over the tenant's, and what follows from them."""

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.errors import GatewayError
from gateway.request import Caller, Preferences, StreamRequest
from gateway.sessions import PreferenceStore
from gateway.stores.shelf import VALUE_BYTES, Shelf

BELIEVED_S = 5.0
"""How long a process goes by what it knows of a user's preferences: so late may others hear of new ones."""

USERS_MAX = 10_000
"""Of whom a process knows them at a time."""


class Likings:
    """What users like, known to this process for a while: the door asks a shared store at most that often.

    Without a shared store nothing needs to be known twice, and `believed_s` is 0.
    """

    def __init__(
        self, store: PreferenceStore, *, believed_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._known: Shelf[tuple[str, str | None], Preferences] = Shelf(
            max_values=USERS_MAX, max_bytes=2 * USERS_MAX * VALUE_BYTES, ttl_s=believed_s, clock=clock
        )

    async def of(self, caller: Caller) -> Preferences | None:
        """What the caller's user said last; nothing where that cannot be found out now, and for the while after it."""
        name = (caller.tenant, caller.user)
        known = self._known.get(name)
        if known is None:
            try:
                known = await self._store.read(caller) or NONE
            except GatewayError:
                known = NONE
            self._known.put(name, known)
        return known

    async def read(self, caller: Caller) -> Preferences:
        """The same, from its store. Raises `STORE_AWAY`."""
        return await self._store.read(caller) or NONE

    async def write(self, caller: Caller, preferences: Preferences) -> None:
        """Keep them. Raises `STORE_AWAY`."""
        await self._store.write(caller, preferences)
        self._known.put((caller.tenant, caller.user), preferences)


NONE = Preferences()
"""Nothing said."""


def merged(*said: Preferences | None) -> Preferences | None:
    """What holds where several have said something, the first of them first; nothing where nobody has."""
    layers = [each for each in said if each is not None and each != NONE]
    if not layers:
        return None
    return Preferences(
        next((each.updates for each in layers if each.updates), ""),
        next((each.response for each in layers if each.response), ""),
        next((each.metadata for each in layers if each.metadata is not None), None),
    )


def preferring(asked: StreamRequest, *stored: Preferences | None) -> StreamRequest:
    """`asked` with the preferences that hold for it, its own before those that are `stored`.

    They go with the request, wherever its answer is made.
    """
    liked = merged(asked.preferences, *stored)
    return asked if liked == asked.preferences else replace(asked, preferences=liked)
