"""Line: those who wait for their turn, in classes, and who of them is next."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeVar

from gateway.admission.permit import HeldPermit
from gateway.limits import Slots

T = TypeVar("T")

CLASSES = ("premium", "standard", "background")
"""The highest first."""
RANKS = {name: rank for rank, name in enumerate(CLASSES)}


class Line:
    """A higher class goes first; after `run` of it in a row, the best of those below it, where anybody waits there."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._classes: list[OrderedDict[str, HeldPermit]] = [OrderedDict() for _ in CLASSES]
        self._runs = [0] * len(CLASSES)
        self._wanted: Counter[Slots] = Counter()
        self._combinations: Counter[tuple[Slots, ...]] = Counter()
        self._tenants: Counter[str] = Counter()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[HeldPermit]:
        for waiting in self._classes:
            yield from waiting.values()

    def waiting(self, priority: str) -> int:
        """How many of a class wait."""
        return len(self._classes[RANKS[priority]])

    def waiting_of(self, tenant: str) -> int:
        """How many of a tenant's wait."""
        return self._tenants[tenant]

    def enter(self, permit: HeldPermit, *, first: bool = False) -> None:
        """Wait behind the others of its class, or before them."""
        waiting = self._classes[RANKS[permit.priority]]
        waiting[permit.sid] = permit
        self._length += 1
        if first:
            waiting.move_to_end(permit.sid, last=False)
        self._wanted.update(permit.shared)
        self._combinations[permit.shared] += 1
        self._tenants[permit.tenant] += 1

    def leave(self, permit: HeldPermit) -> bool:
        """Wait no more; whether it did."""
        if self._classes[RANKS[permit.priority]].pop(permit.sid, None) is None:
            return False
        self._length -= 1
        _uncount(self._wanted, permit.shared)
        _uncount(self._combinations, (permit.shared,))
        _uncount(self._tenants, (permit.tenant,))
        return True

    def position(self, permit: HeldPermit) -> int:
        """Its place in the order of classes, from 1 on; behind the last where it does not wait."""
        return next((at for at, waiting in enumerate(self, 1) if waiting is permit), len(self) + 1)

    def wants_all(self, shared: tuple[Slots, ...]) -> bool:
        """Whether anybody waits for exactly these slots."""
        return shared in self._combinations

    def wants_any(self, shared: tuple[Slots, ...]) -> bool:
        """Whether anybody waits for one of these slots."""
        return any(slots in self._wanted for slots in shared)

    def next(self, skipped: Callable[[HeldPermit], bool]) -> HeldPermit | None:
        """Whose turn it is, of all that are not `skipped`."""
        heads = [(rank, self._head(rank, skipped)) for rank in range(len(CLASSES))]
        found = [(rank, head) for rank, head in heads if head is not None]
        for rank, head in found[:-1]:
            if self._runs[rank] < self._run:
                return head
        return found[-1][1] if found else None

    def granted(self, permit: HeldPermit, skipped: Callable[[HeldPermit], bool]) -> None:
        """Its turn has come: those above it have let one pass, those below, if there are any, one more before them."""
        rank = RANKS[permit.priority]
        passes = any(self._head(lower, skipped) is not None for lower in range(rank + 1, len(CLASSES)))
        self._runs[:rank] = [0] * rank
        self._runs[rank] = self._runs[rank] + 1 if passes else 0
        self.leave(permit)

    def _head(self, rank: int, skipped: Callable[[HeldPermit], bool]) -> HeldPermit | None:
        return next((permit for permit in self._classes[rank].values() if not skipped(permit)), None)


class Tried:
    """What was learnt in one round of asking for shared slots, so that nothing is asked in vain for each who waits.

    A stream that waits has all its other slots already: what it lacks is one of those, and so do others like it.
    """

    def __init__(self) -> None:
        self._full: set[tuple[Slots, ...]] = set()

    def refused(self, permit: HeldPermit) -> None:
        """It got none."""
        self._full.add(permit.shared)

    def skips(self, permit: HeldPermit) -> bool:
        """Whether it need not be asked for in this round."""
        return permit.shared in self._full


def _uncount(counter: Counter[T], gone: tuple[T, ...]) -> None:
    """Count them down, and keep nothing that is not there any more."""
    for one in gone:
        counter[one] -= 1
        if not counter[one]:
            del counter[one]
