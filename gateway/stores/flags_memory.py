"""MemoryFlags: flags of this process alone; what was changed is forgotten with it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.flags import AUDIT_MAX, Change, Entry, Flag, to_dict


class MemoryFlags:
    """A FlagStore for one process. `clock` tells Unix time."""

    def __init__(self, configured: Iterable[Flag], *, clock: Callable[[], float] = time.time) -> None:
        self._flags = {flag.name: flag for flag in configured}
        self._clock = clock
        self._trail: deque[tuple[str, Entry]] = deque(maxlen=AUDIT_MAX)

    def read(self) -> Mapping[str, Flag]:
        """All flags."""
        return self._flags

    async def change(self, name: str, change: Change, actor: str) -> Flag:
        """No await inside, hence atomic on one loop."""
        before = self._flags[name]
        after = change(before)
        if after == before:
            return before
        now = self._clock()
        after = self._flags[name] = replace(after, version=before.version + 1, changed_s=now)
        self._trail.append((name, Entry(actor, now, to_dict(before), to_dict(after))))
        return after

    async def audit(self, name: str) -> Sequence[Entry]:
        """The changes of that flag, the newest first."""
        return [entry for of, entry in reversed(self._trail) if of == name]
