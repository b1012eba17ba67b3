"""Shelf: small values kept in this process for a time, within bounds; what was put there first goes first."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

NameT = TypeVar("NameT", bound=Hashable)
ValueT = TypeVar("ValueT")

VALUE_BYTES = 500
"""Memory that a value takes beside its payload, about: its name, its objects, its place."""


def share_of(most: int) -> int:
    """How much of a room for `most` one owner may have: half, so that no single one takes it from all others."""
    return (most + 1) // 2


class _Kept(NamedTuple, Generic[ValueT]):
    value: ValueT
    bytes: int
    until: float


class _Owned(Generic[NameT]):
    """What one owner has: the names, the oldest first, and what they take."""

    def __init__(self) -> None:
        self.names: OrderedDict[NameT, None] = OrderedDict()
        self.bytes = 0


class Shelf(Generic[NameT, ValueT]):
    """Keeps each value for `ttl_s` seconds after it was put; at most `max_values`, of `max_bytes` together.

    Where `owner_of` says whose a name is, none has more than its share of either: beyond it go its own.
    """

    def __init__(
        self,
        *,
        max_values: int,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        owner_of: Callable[[NameT], Hashable] | None = None,
    ) -> None:
        self._max_values = max_values
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._owner_of = owner_of
        self._values: OrderedDict[NameT, _Kept[ValueT]] = OrderedDict()
        self._owned: dict[Hashable, _Owned[NameT]] = {}
        self.bytes = 0
        """What all of them take."""

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: NameT) -> ValueT | None:
        """The value of that name."""
        self._make_room()
        kept = self._values.get(name)
        return None if kept is None else kept.value

    def oldest(self, count: int) -> list[tuple[NameT, ValueT]]:
        """Those that were put first, at most so many."""
        self._make_room()
        return [(name, kept.value) for name, kept in islice(self._values.items(), count)]

    def put(self, name: NameT, value: ValueT, size: int = 0) -> None:
        """Keep `value`, of `size` bytes, in place of what has the name; it is the newest now."""
        self._drop(name)
        self._values[name] = _Kept(value, size + VALUE_BYTES, self._clock() + self._ttl_s)
        self.bytes += size + VALUE_BYTES
        if self._owner_of is not None:
            self._own(self._owner_of(name), name, size + VALUE_BYTES)
        self._make_room()

    def _own(self, owner: Hashable, name: NameT, size: int) -> None:
        """Its newest; of its oldest go as many as are too many."""
        owned = self._owned.setdefault(owner, _Owned())
        owned.names[name] = None
        owned.bytes += size
        while len(owned.names) > share_of(self._max_values) or owned.bytes > share_of(self._max_bytes):
            self._drop(next(iter(owned.names)))

    def pop(self, name: NameT) -> ValueT | None:
        """Take a value away."""
        self._make_room()
        kept = self._drop(name)
        return None if kept is None else kept.value

    def _drop(self, name: NameT) -> _Kept[ValueT] | None:
        kept = self._values.pop(name, None)
        if kept is None:
            return None
        self.bytes -= kept.bytes
        if self._owner_of is not None:
            owner = self._owner_of(name)
            owned = self._owned[owner]
            del owned.names[name]
            owned.bytes -= kept.bytes
            if not owned.names:
                del self._owned[owner]
        return kept

    def _make_room(self) -> None:
        now = self._clock()
        while self._values:
            name, oldest = next(iter(self._values.items()))
            full = len(self._values) > self._max_values or self.bytes > self._max_bytes
            if not full and oldest.until > now:
                return
            self._drop(name)
