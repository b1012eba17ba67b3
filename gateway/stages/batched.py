"""Batched: text leaves a sentence at a time, for callers who would rather not see every token."""

import re
from collections.abc import Iterator, Sequence

from gateway.events import Event, Text
from gateway.stages.base import Stage

LONGEST = 200
"""Characters after which text leaves though its sentence goes on."""

_SENTENCE = re.compile(r"[.!?…][\"'”’»)\]]*\s|[。！？]|\n")
"""The end of a sentence or line; the space behind a full stop tells it from a decimal point."""


class Batched(Stage):
    """Holds text until a sentence ends, or `LONGEST` characters of it wait.

    Where it cuts depends on the characters alone, not on the tokens or batches that they came in: an answer that is
    said again is cut at the same places. Whatever else comes passes at once, what is held before it.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """Whole sentences."""
        made: list[Event] = []
        for event in events:
            if type(event) is Text:
                self._held += event
                made += self._whole()
            else:
                made += self.last()
                made.append(event)
        return made

    def last(self) -> Sequence[Event]:
        """What is held, whole or not."""
        held, self._held = self._held, ""
        return [Text(held)] if held else []

    def _whole(self) -> Iterator[Text]:
        held, start = self._held, 0
        while (end := _cut(held, start)) > 0:
            yield Text(held[start:end])
            start = end
        self._held = held[start:]


def _cut(text: str, start: int) -> int:
    """Where the text from `start` on is to be cut next; 0 where more has to come first."""
    found = _SENTENCE.search(text, start, start + LONGEST)
    if found is not None:
        return found.end()
    if len(text) - start < LONGEST:
        return 0
    space = text.rfind(" ", start, start + LONGEST)
    return space + 1 if space >= start else start + LONGEST
