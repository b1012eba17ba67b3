"""Truncate: an answer that becomes too long ends at the end of a sentence; one that never ends is a failure."""

import math
import time
from collections.abc import Callable, Sequence

from gateway.errors import Code, GatewayError
from gateway.events import Event, Text, TextComplete, ToolCall, Usage, Warned
from gateway.request import CHARACTERS_PER_TOKEN, Caps
from gateway.stages.base import Stage
from gateway.stages.prose import CLOSERS, CONTEXT, end_of_word, last_sentence, last_word
from gateway.stages.told import NOTHING, Told

NEAR = 0.9
"""The part of a cap beyond which a sentence is held until it is whole …"""

SENTENCE_WORDS, SENTENCE_CHARACTERS = 40, 240
"""… and where that leaves less than a long sentence, so much before the cap: it must not be passed in the middle."""

LOOK = 512
"""Characters after which words are counted, at the latest: what is not counted yet is kept."""

HELD_MAX = 2048
"""Characters that are held at most: what has no end so far is no sentence."""


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
        self._near_words = _near(self._words, SENTENCE_WORDS)
        self._near_characters = _near(self._characters, SENTENCE_CHARACTERS)
        self._near_bytes = _near(self._bytes, SENTENCE_CHARACTERS)
        self._began = self._due = 0.0
        self._told = NOTHING
        self._size, self._since = 0, ""
        self._look_at = 0 if caps.seconds else self._next_look()
        self._near = self._over = False
        self._held: list[Event] = []
        self._waiting = ""
        self._ahead = NOTHING
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
        words, characters = self._near_words - told.words, self._near_characters - told.size
        left = min(LOOK, words, characters, (self._near_bytes - told.bytes) / 4, self._max_size - told.size)
        return told.size + max(1, int(left))

    def _is_near(self, told: Told) -> bool:
        passed = told.words > self._near_words or told.size > self._near_characters
        passed = passed or told.bytes > self._near_bytes
        return passed or (self._due > 0 and self._clock() >= self._due)

    # Near a cap.

    def _closely(self, events: Sequence[Event]) -> Sequence[Event]:
        """What becomes of `events`, one by one, now and from here on."""
        self._count(self._since, self._size - self._told.size - len(self._since))
        if not self._near:
            self._ahead = self._told
        self._since = ""
        made: list[Event] = []
        for event in events:
            if not self._over:
                made += self._text(event) if isinstance(event, Text) else self._other(event)
        self._size = self._told.size
        self._look_at = 0
        return made

    def _count(self, text: str, beside: int = 0) -> None:
        self._told = self._told.plus(text, beside)
        self._before = (self._before + text)[-CONTEXT:]

    def _text(self, event: Text) -> Sequence[Event]:
        ahead = self._ahead.plus(event)
        self._near = self._near or self._is_near(ahead)
        if cap := self._passed(ahead):
            self._held.append(event)
            return self._cut(self._waiting + event, self._room(self._waiting + event), cap)
        self._fits(ahead)
        self._ahead = ahead
        if not self._near:
            self._count(event)
            return [event]
        self._held.append(event)
        known, self._waiting = len(self._waiting), self._waiting + event
        if len(self._waiting) > HELD_MAX:
            return self._let_go(len(self._held))
        before = len(self._before)
        # What was held before was looked at, but its last full stop may be one only now.
        look_from = max(0, before + known - len(CLOSERS))
        end = last_sentence(self._before + self._waiting, before, before + len(self._waiting), look_from)
        return self._let_go(self._within(end - before)) if end is not None else ()

    def _other(self, event: Event) -> Sequence[Event]:
        """What is not text is held only behind text that is."""
        if type(event) is TextComplete:
            self._over = True
            return [*self._let_go(len(self._held)), event]
        if event.is_content:
            ahead = self._ahead.plus("", event.size)
            cap = self._passed(ahead)
            if cap and type(event) is not ToolCall:
                return self._cut(self._waiting, len(self._waiting), cap)
            self._fits(ahead)
            self._ahead, self._told = ahead, self._told.plus("", event.size)
        if not self._held:
            return [event]
        self._held.append(event)
        return ()

    def _passed(self, told: Told) -> str:
        """The cap that does not allow so much; empty where all do."""
        if told.words > self._words:
            return "words"
        if told.size > self._characters:
            return "tokens"
        if told.bytes > self._bytes:
            return "bytes"
        late = self._began and self._clock() >= self._began + self._caps.seconds
        return "seconds" if late else ""

    def _fits(self, told: Told) -> None:
        if told.size > self._max_size:
            raise GatewayError(Code.OUTPUT_LIMIT)

    def _room(self, text: str) -> int:
        """How much of the text that is held fits within all caps; when time is up, what came before it was."""
        told, room = self._told, len(text)
        if self._words < math.inf:
            room = end_of_word(text, int(self._words) - told.words, told.carry)
        if self._characters < math.inf:
            room = min(room, max(0, int(self._characters) - told.size))
        if self._bytes < math.inf:
            encoded = text.encode("utf-8", "surrogatepass")[: max(0, int(self._bytes) - told.bytes)]
            room = min(room, len(encoded.decode("utf-8", "ignore")))
        if self._began and self._clock() >= self._began + self._caps.seconds:
            room = min(room, len(self._waiting))
        return room

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
        text = "".join(event for event in free if isinstance(event, Text))
        self._waiting = self._waiting[len(text) :]
        self._count(text)
        return free

    def _cut(self, text: str, room: int, cap: str) -> Sequence[Event]:
        """The end: a sentence's where one lies within the room, else a word's."""
        before = len(self._before)
        # What was said last may have been a whole sentence, and the space behind it.
        found = last_sentence(self._before + text, len(self._before.rstrip()), before + room)
        end = last_word(text, room) if found is None else max(0, found - before)
        made = list(self._let_go(self._within(end)))
        rest = text[sum(len(event) for event in made if isinstance(event, Text)) : end]
        if rest:
            self._count(rest)
            made.append(Text(rest))
        self._held, self._waiting, self._ahead, self._over = [], "", self._told, True
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


def _near(cap: float, sentence: float) -> float:
    """Beyond what of a cap a sentence is held."""
    return min(NEAR * cap, max(0.0, cap - sentence))
