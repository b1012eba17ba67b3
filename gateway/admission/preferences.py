"""Preferences at the door: the request's over the user's over the tenant's, and what follows from them."""

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.errors import GatewayError
from gateway.request import Caller, Caps, Preferences, StreamRequest
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

CONCISE = Caps(words=150)
"""What `concise` means where the model does not hear on it."""


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


def tighter(one: Caps | None, other: Caps | None) -> Caps | None:
    """The lower of two bounds each; 0 is none."""
    if one is None or other is None:
        return one or other
    return Caps(
        min(filter(None, (one.words, other.words)), default=0),
        min(filter(None, (one.tokens, other.tokens)), default=0),
        min(filter(None, (one.bytes, other.bytes)), default=0),
        min(filter(None, (one.seconds, other.seconds)), default=0.0),
    )


def preferring(asked: StreamRequest, *stored: Preferences | None) -> StreamRequest:
    """`asked` with the preferences that hold for it, its own before those that are `stored`, and what they bound."""
    liked = merged(asked.preferences, *stored)
    if liked is None:
        return asked if asked.preferences is None else replace(asked, preferences=None)
    caps = tighter(asked.caps, CONCISE) if liked.response == "concise" else asked.caps
    return replace(asked, preferences=liked, caps=caps)
