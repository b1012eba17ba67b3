"""Roster: the names of all values of one kind in Redis, so that there are never too many of them."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.stores.batch import Batch, Word
from gateway.stores.scripts import Script
from gateway.stores.shelf import share_of


class Roster:
    """At most `max_names` of `key`; those that were noted longest ago go first, and whatever is older than `ttl_s`.

    One tenant has no more than its share of them: beyond it go its own.
    """

    def __init__(self, key: str, *, max_names: int, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._max_names = max_names
        self._ttl_s = ttl_s
        self._clock = clock
        self._enroll = Script("enroll")

    def note(self, batch: Batch, name: str, own: str) -> None:
        """One command: `name` is the newest now, also in `own`, the key of its tenant. Its answer goes to `forget`."""
        now = self._clock()
        words: list[Word] = [name, f"{now:.3f}", f"{now - self._ttl_s:.3f}"]
        words += (self._max_names, share_of(self._max_names))
        batch.run(self._enroll, [self._key, own], words)

    @staticmethod
    def forget(batch: Batch, replies: Sequence[Any]) -> None:
        """One command, where the answers to `note` name what is surplus: forget it."""
        words: list[Word] = [name for reply in replies if isinstance(reply, list) for name in reply]
        if words:
            batch.add("UNLINK", *words)
