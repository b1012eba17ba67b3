"""Leases: which slots this process's streams hold in Redis, and what of it Redis does not know yet."""

from collections.abc import Iterable, Iterator
from itertools import islice

from gateway.stores.batch import Word

AT_ONCE = 128
"""Streams that one round trip is about, so that no charge waits long for its turn."""

LEFT_MAX = 20_000
"""Streams whose slots are to be given back while Redis is away; beyond it the oldest leases end by themselves."""

Round = tuple[list[str], list[Word]]
"""Keys, and for each of them how many streams and their names."""


class Leases:
    """By stream: the keys of its slots. Nothing here waits."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, ...]] = {}
        self._unwritten: dict[str, None] = {}
        self._left: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, sid: str, keys: tuple[str, ...], *, written: bool) -> None:
        """The stream holds these, beside those that it holds."""
        if not keys:
            return
        before = self._held.get(sid, ())
        self._held[sid] = keys if not before else tuple(dict.fromkeys((*before, *keys)))
        self._leave(sid, self._left.pop(sid, ()))
        if not written:
            self._unwritten[sid] = None

    def leave(self, sid: str) -> bool:
        """It holds none any more; whether it held any."""
        keys = self.forget(sid)
        self._leave(sid, (*self._left.pop(sid, ()), *keys))
        return bool(keys)

    def forget(self, sid: str) -> tuple[str, ...]:
        """What it holds is not for this process to say any more."""
        self._unwritten.pop(sid, None)
        return self._held.pop(sid, ())

    def ask(self, sid: str) -> None:
        """Redis is asked for slots anew, which settles what was in doubt."""
        self._left.pop(sid, None)

    def doubt(self, sid: str, keys: tuple[str, ...]) -> None:
        """Redis may have given it these, and it may have not: what it does not hold is to be given back."""
        self._leave(sid, keys)

    def _leave(self, sid: str, keys: tuple[str, ...]) -> None:
        held = self._held.get(sid, ())
        left = tuple(key for key in keys if key not in held)
        if left:
            self._left[sid] = left
            if len(self._left) > LEFT_MAX:
                del self._left[next(iter(self._left))]

    # What is to be written.

    def left(self) -> list[tuple[str, tuple[str, ...]]]:
        """Some of the streams whose slots are to be given back, with the keys."""
        return list(islice(self._left.items(), AT_ONCE))

    def given_back(self, some: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """These were."""
        for sid, keys in some:
            if self._left.get(sid) is keys:
                del self._left[sid]

    def rounds(self) -> Iterator[Round]:
        """All that is held, in pieces for one round trip each. What is left meanwhile must be given back after it."""
        yield from self._rounds(list(self._held))

    def fresh(self) -> Iterator[Round]:
        """What is held and was never written, likewise."""
        sids = list(self._unwritten)
        yield from self._rounds(sids)
        for sid in sids:
            self._unwritten.pop(sid, None)

    def _rounds(self, sids: list[str]) -> Iterator[Round]:
        for at in range(0, len(sids), AT_ONCE):
            holders: dict[str, list[str]] = {}
            for sid in sids[at : at + AT_ONCE]:
                for key in self._held.get(sid, ()):
                    holders.setdefault(key, []).append(sid)
            words: list[Word] = []
            for names in holders.values():
                words += (len(names), *names)
            yield list(holders), words
