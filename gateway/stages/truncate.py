"""Truncate: an answer that becomes too long ends at the end of a sentence; one that never ends is a failure."""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.errors import Code, GatewayError
from gateway.events import Event, Text, TextComplete, ToolCall, Usage, Warned
from gateway.request import CHARACTERS_PER_TOKEN, Caps
from gateway.stages.base import Stage
from gateway.stages.prose import CONTEXT, count_words, end_of_word, last_sentence, last_word

NEAR = 0.9
"""The part of a cap beyond which a sentence is held until it is whole."""

LOOK = 512
"""Characters after which words are counted, at the latest: what is not counted yet is kept."""

HELD_MAX = 2048
"""Characters that are held at most: what has no end so far is no sentence."""


class Told(NamedTuple):
    """How much was said: `size` is in characters, of all content; `carry` is what a word may go on with."""

    words: int = 0
    size: int = 0
    bytes: int = 0
    carry: str = ""

    def plus(self, text: str, beside: int = 0) -> "Told":
        """With this text, and content of that size beside it."""
        words, carry = count_words(text, self.carry) if text else (0, self.carry)
        size = beside + len(text)
        more = size if text.isascii() else beside + len(text.encode("utf-8", "surrogatepass"))
        return Told(self.words + words, self.size + size, self.bytes + more, carry)


NOTHING = Told()


class Truncate(Stage):
    """Ends the text with `TRUNCATED` at the last end of a sentence within `caps`, or of a word where none is near.

    Beyond `max_bytes` of content the stream fails with `OUTPUT_LIMIT`. Reasoning, refusals and tool calls count as
    tokens and bytes, not as words; a tool call is never cut, whatever its length. What is said is a beginning of what
    came, event by event, and does not depend on its batches: an exact source can be followed again.
    `asked_tokens` is how many the question took, as an estimate.
    """

    def __init__(
        self,
        caps: Caps,
        *,
        max_bytes: int,
        asked_tokens: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._caps = caps
        self._max_size = max_bytes
        self._asked_tokens = asked_tokens
        self._clock = clock
        self._words = caps.words or math.inf
        self._characters = caps.tokens * CHARACTERS_PER_TOKEN or math.inf
        self._bytes = caps.bytes or math.inf
        self._began = self._due = 0.0
        self._told = NOTHING
        self._size, self._since = 0, ""
        self._look_at = 0 if caps.seconds else self._next_look()
        self._near = self._over = False
        self._held: list[Event] = []
        self._before = ""

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """The same events, until it becomes too many. This is run for each token: most of them are only measured."""
        size, since = self._size, self._since
        for event in events:
            if type(event) is Text:
                size += len(event)
                since += event
            elif event.is_content:
                size += event.size
        if size < self._look_at and not (self._due and self._clock() >= self._due):
            self._size, self._since = size, since
            return events
        return events if self._is_far(size, since) else self._closely(events)

    def last(self) -> Sequence[Event]:
        """What is held. If the log that was fed here was too long already, more of it is cut at once."""
        self._over = False
        return self._let_go(len(self._held))

    def _is_far(self, size: int, since: str) -> bool:
        """Whether no cap is near even with all this; if so it is counted, and when to look again."""
        if self._near or self._over:
            return False
        if self._caps.seconds and not self._began and size:
            self._began = self._clock()
            self._due = self._began + NEAR * self._caps.seconds
        told = self._told.plus(since, size - self._told.size - len(since))
        if self._is_near(told):
            return False
        if size > self._max_size:
            raise GatewayError(Code.OUTPUT_LIMIT)
        self._told, self._size, self._since = told, size, ""
        self._before = (self._before + since)[-CONTEXT:]
        self._look_at = self._next_look()
        return True

    def _next_look(self) -> int:
        """The size below which no cap can be near. A word has a character at least, a character four bytes at most."""
        told = self._told
        words, characters = NEAR * self._words - told.words, NEAR * self._characters - told.size
        left = min(LOOK, words, characters, (NEAR * self._bytes - told.bytes) / 4, self._max_size - told.size)
        return told.size + max(1, int(left))

    def _is_near(self, told: Told) -> bool:
        passed = told.words > NEAR * self._words or told.size > NEAR * self._characters
        passed = passed or told.bytes > NEAR * self._bytes
        return passed or (self._due > 0 and self._clock() >= self._due)

    # Near a cap.

    def _closely(self, events: Sequence[Event]) -> Sequence[Event]:
        """What becomes of `events`, one by one."""
        self._count(self._since, self._size - self._told.size - len(self._since))
        self._since = ""
        made: list[Event] = []
        for event in events:
            if not self._over:
                made += self._text(event) if isinstance(event, Text) else self._other(event)
        self._size = self._told.size
        # From here on each event comes this way.
        self._look_at = 0
        return made

    def _count(self, text: str, beside: int = 0) -> None:
        self._told = self._told.plus(text, beside)
        self._before = (self._before + text)[-CONTEXT:]

    def _text(self, event: Text) -> Sequence[Event]:
        if not self._near:
            self._near = self._is_near(self._told.plus(event))
        if not self._near:
            self._fits(len(event))
            self._count(event)
            return [event]
        held = self._held_text()
        self._held.append(event)
        text = held + event
        room, cap = self._room(text, len(held))
        if room < len(text):
            return self._cut(text, room, cap)
        self._fits(len(text))
        if len(text) > HELD_MAX:
            return self._let_go(len(self._held))
        end = last_sentence(self._before + text, len(self._before), len(self._before) + len(text))
        return self._let_go(self._within(end - len(self._before))) if end is not None else ()

    def _other(self, event: Event) -> Sequence[Event]:
        """What is not text is held only behind text that is."""
        if type(event) is TextComplete:
            self._over = True
            return [*self._let_go(len(self._held)), event]
        if event.is_content:
            held = self._held_text()
            self._fits(len(held) + event.size)
            told = self._told.plus(held, event.size)
            if type(event) is not ToolCall and (told.size > self._characters or told.bytes > self._bytes):
                return self._cut(held, len(held), "tokens" if told.size > self._characters else "bytes")
            self._told = self._told.plus("", event.size)
        if not self._held:
            return [event]
        self._held.append(event)
        return ()

    def _fits(self, size: int) -> None:
        if self._told.size + size > self._max_size:
            raise GatewayError(Code.OUTPUT_LIMIT)

    def _room(self, text: str, known: int) -> tuple[int, str]:
        """How much of the text that is held fits, and within which cap. All but `known` of it is new."""
        told, fits = self._told, [(len(text), "")]
        if self._words < math.inf:
            fits.append((end_of_word(text, int(self._words) - told.words, told.carry), "words"))
        if self._characters < math.inf:
            fits.append((max(0, int(self._characters) - told.size), "tokens"))
        if self._bytes < math.inf:
            encoded = text.encode("utf-8", "surrogatepass")[: max(0, int(self._bytes) - told.bytes)]
            fits.append((len(encoded.decode("utf-8", "ignore")), "bytes"))
        if self._began and self._clock() >= self._began + self._caps.seconds:
            fits.append((known, "seconds"))
        return min(fits)

    def _held_text(self) -> str:
        return "".join(event for event in self._held if isinstance(event, Text))

    def _within(self, end: int) -> int:
        """How many of the held events lie before that place in their text."""
        for number, event in enumerate(self._held):
            end -= len(event) if isinstance(event, Text) else 0
            if end < 0:
                return number
        return len(self._held)

    def _let_go(self, count: int) -> Sequence[Event]:
        """The first of the held events."""
        free, self._held = self._held[:count], self._held[count:]
        self._count("".join(event for event in free if isinstance(event, Text)))
        return free

    def _cut(self, text: str, room: int, cap: str) -> Sequence[Event]:
        """The end: a sentence's where one lies within the room, else a word's."""
        before = len(self._before)
        found = last_sentence(self._before + text, before, before + room)
        end = last_word(text, room) if found is None else found - before
        made = list(self._let_go(self._within(end)))
        rest = text[sum(len(event) for event in made if isinstance(event, Text)) : end]
        if rest:
            self._count(rest)
            made.append(Text(rest))
        self._over = True
        usage = Usage(self._asked_tokens(), self._told.size // CHARACTERS_PER_TOKEN, reported=False)
        return [*made, self._warning(cap), TextComplete("length", usage)]

    def _warning(self, cap: str) -> Warned:
        """Which cap it was, and how much was said of it."""
        told = self._told
        said = {"words": told.words, "tokens": told.size // CHARACTERS_PER_TOKEN, "bytes": told.bytes}
        said["seconds"] = round(self._clock() - self._began)
        limit = getattr(self._caps, cap)
        return Warned(
            "TRUNCATED", f"the answer may not be longer than {limit:g} {cap}", {cap: said[cap], "limit": limit}
        )
