"""Backlog: the messages that one target has not taken yet, in the order in which they happened."""

from collections.abc import Iterator

from gateway.webhooks.message import Message


class Entry:
    """A message, how often it was tried in vain, and when it may be tried again, on the loop's clock."""

    __slots__ = ("due", "message", "sending", "tries")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.tries = 0
        self.due = 0.0
        self.sending = False


class Backlog:
    """At most `limit` of them and those on their way; the oldest make room."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, message: Message) -> bool:
        """Keep it; whether another one had to go. What is on its way stays, for it may have arrived."""
        idle = None
        if len(self._entries) >= self._limit:
            idle = next((entry for entry in self._entries if not entry.sending), None)
            if idle is not None:
                self._entries.remove(idle)
        self._entries.append(Entry(message))
        return idle is not None

    def ready(self, now: float) -> Entry | None:
        """The oldest message that is due, and before which nothing about the same has to be said."""
        return next((entry for entry in self._first_ones() if entry.due <= now), None)

    def next_due(self) -> float | None:
        """When the first of those that wait for nothing else may be tried; None where there is none."""
        return min((entry.due for entry in self._first_ones()), default=None)

    def _first_ones(self) -> Iterator[Entry]:
        """Of all that is about the same, the oldest, unless it is on its way."""
        seen = set()
        for entry in self._entries:
            if entry.message.about not in seen:
                seen.add(entry.message.about)
                if not entry.sending:
                    yield entry

    def all_due(self) -> None:
        """Whatever each of them waited for has come."""
        for entry in self._entries:
            entry.due = 0.0

    def remove(self, entry: Entry) -> bool:
        """Keep it no longer; false where it was given up before."""
        if entry in self._entries:
            self._entries.remove(entry)
            return True
        return False

    def clear(self) -> int:
        """Give all of them up; how many."""
        count = len(self._entries)
        self._entries.clear()
        return count
