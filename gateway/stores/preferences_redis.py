"""RedisPreferences: how users like to be answered, known to all processes."""

import orjson

from gateway.request import Caller, Preferences
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.roster import Roster
from gateway.stores.sessions_redis import ask


class RedisPreferences:
    """A PreferenceStore over Redis: of `max_users`, half of them of one tenant, each kept for `ttl_s` seconds after it was said."""

    def __init__(self, courier: Courier, keys: Keys, *, max_users: int, ttl_s: float) -> None:
        self._courier = courier
        self._keys = keys
        self._ttl_ms = int(ttl_s * 1000)
        self._roster = Roster(keys.likings, max_names=max_users, ttl_s=ttl_s)

    async def read(self, owner: Caller) -> Preferences | None:
        """What the user said last. Raises `STORE_AWAY`."""
        key = self._keys.liking(owner)
        (reply,) = await ask(self._courier, lambda batch: batch.add("GET", key))
        return None if reply is None else _decode(reply)

    async def write(self, owner: Caller, preferences: Preferences) -> None:
        """In place of what was said before. Raises `STORE_AWAY`."""
        key = self._keys.liking(owner)

        def put(batch: Batch) -> None:
            batch.add("SET", key, orjson.dumps(preferences), "PX", self._ttl_ms)
            self._roster.note(batch, key, self._keys.likings_of(owner.tenant))

        _, surplus = await ask(self._courier, put)
        if surplus:
            await ask(self._courier, lambda batch: self._roster.forget(batch, [surplus]))


def _decode(body: bytes) -> Preferences | None:
    """None for what is none: another version may have written it."""
    try:
        found = orjson.loads(body)
        metadata = found.get("metadata")
        return Preferences(
            str(found.get("updates") or ""),
            str(found.get("response") or ""),
            metadata if isinstance(metadata, bool) else None,
        )
    except (ValueError, AttributeError):
        return None
