"""The closed set of events: what can happen while an answer is being made.

An event is a small frozen value that knows nothing of any dialect. A `Record` is an event at its
place in a stream. `size` is what an event costs to keep, in bytes and without the constant cost of
the objects around it (`RECORD_OVERHEAD_BYTES`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import orjson

RECORD_OVERHEAD_BYTES = 80
"""Memory that an event takes beside its payload: the header of its string, or its object, and its place in the list."""

MEMBER_BYTES = 48
"""What a container, or a member of one, takes beside its text: a header, a place in a table."""

ORPHANED = "orphaned"
SUPERSEDED = "superseded"
DRAINING = "draining"
CANCELLED = "cancelled"
"""The finish reasons of cancelled streams: nobody read it any more, its session asked something new, its process went
away, somebody asked for it."""

HANDED_OVER = "handed_over"
"""Why a stream that has not ended is over in this process: another one makes it."""

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer. `reported` is false where the gateway had to estimate."""

    prompt_tokens: int
    completion_tokens: int
    reported: bool = True
    details: JsonObject = field(default_factory=dict)

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class Event:
    """One thing that happened. Do not subclass outside this module: dialects match on the whole set."""

    __slots__ = ()
    is_content: ClassVar[bool] = False
    """Whether the answer has begun with it; what is not content may still be taken back."""
    is_terminal: ClassVar[bool] = False
    """Whether nothing follows it."""

    @property
    def size(self) -> int:
        """Bytes of payload, roughly; exact where it matters (text, audio)."""
        return 64


class _Weighed:
    """An event whose payload others make: weighed once, for it may be of any size."""

    __slots__ = ("_weight",)
    _weight: int

    def _weigh(self, payload: Any) -> None:
        try:
            weight = weigh_json(orjson.dumps(payload, default=str))
        except TypeError:
            weight = 0  # What is no JSON cannot be told either.
        object.__setattr__(self, "_weight", 64 + weight)

    @property
    def size(self) -> int:
        """Bytes that its payload takes in memory, roughly."""
        return self._weight


@dataclass(frozen=True, slots=True)
class Opened(_Weighed, Event):
    """The stream exists. Always seq 1, logged before the upstream is called."""

    model: str
    metadata: JsonObject | None = None

    def __post_init__(self) -> None:
        self._weigh(self.metadata)


@dataclass(frozen=True, slots=True)
class Status(Event):
    """What is going on meanwhile: queued, thinking, continued …"""

    state: str
    message: str = ""
    details: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metadata(_Weighed, Event):
    """Facts beside the answer: model, intent, sources …"""

    data: JsonObject

    def __post_init__(self) -> None:
        self._weigh(self.data)


class Text(str, Event):
    """A piece of the answer.

    A string itself, so that it is made, sized and written like one: of all events this is by far the most frequent.
    """

    __slots__ = ()
    is_content: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def token(self) -> str:
        """The text, and nothing but a string."""
        return str(self)

    @property
    def size(self) -> int:
        """Characters: exact for ASCII, within a factor of four for the rest, as in CPython's own strings."""
        return len(self)


class WholeText(Text):
    """The whole text so far: what a client had is to be replaced by it."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WholeText) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Text.__hash__


@dataclass(frozen=True, slots=True)
class Reasoning(Event):
    """A piece of the model's reasoning, as its provider streams it."""

    token: str
    is_content: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Characters."""
        return len(self.token)


@dataclass(frozen=True, slots=True)
class Refusal(Event):
    """A piece of the model's refusal."""

    token: str
    is_content: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Characters."""
        return len(self.token)


@dataclass(frozen=True, slots=True)
class ToolCall(Event):
    """A piece of a tool call; `arguments` is a fragment of JSON text, to be joined per `index`."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    is_content: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Characters of arguments and names."""
        return 64 + len(self.arguments) + len(self.name or "")


@dataclass(frozen=True, slots=True)
class Citation(_Weighed, Event):
    """Where a statement comes from, as the provider says it."""

    data: JsonObject
    is_content: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._weigh(self.data)


@dataclass(frozen=True, slots=True)
class Audio(Event):
    """A piece of speech, in order: raw bytes, not base64. `duration_ms` is how long it plays."""

    chunk: bytes
    format: str
    sample_rate: int
    sentence: str
    index: int
    final: bool
    duration_ms: int
    is_content: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Bytes of sound."""
        return len(self.chunk) + len(self.sentence)


@dataclass(frozen=True, slots=True)
class AudioEvicted(Event):
    """Stands where a piece of speech was that is no longer kept; its seq lives on."""

    index: int


@dataclass(frozen=True, slots=True)
class Suggestions(Event):
    """Follow-up questions."""

    suggestions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress(_Weighed, Event):
    """A step of a longer job; names on the wire as in the documentation."""

    data: JsonObject

    def __post_init__(self) -> None:
        self._weigh(self.data)


@dataclass(frozen=True, slots=True)
class PartialResult(Event):
    """A long result in pieces."""

    chunk: Any
    chunk_index: int
    is_complete: bool
    is_content: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Characters of the chunk where it is text, else a guess."""
        return len(self.chunk) if isinstance(self.chunk, str) else 512


@dataclass(frozen=True, slots=True)
class Results(_Weighed, Event):
    """Cards, documents …: `data` holds `type`, `products` or `items`, `total`."""

    data: JsonObject
    is_content: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._weigh(self.data)


@dataclass(frozen=True, slots=True)
class Custom(_Weighed, Event):
    """An application's own event, its name from the closed list of its route profile."""

    name: str
    data: JsonObject

    def __post_init__(self) -> None:
        self._weigh(self.data)


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something is amiss that does not end the stream. On the wire: `warning`."""

    code: str
    message: str
    details: JsonObject = field(default_factory=dict)


NOT_DURABLE = Warned("NOT_DURABLE", "the store is away: what is said now may be lost with this process")
"""For those who read while it is so; it stands in no log."""


@dataclass(frozen=True, slots=True)
class TextComplete(Event):
    """The source has ended by its own terminal marker. On the wire: `status` text_complete."""

    finish_reason: str
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Completed(Event):
    """Terminal: the answer is whole, or was cancelled. `status` says which."""

    status: str
    finish_reason: str
    usage: Usage | None
    total: int
    duration_ms: int
    is_terminal: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """Terminal: the answer is not whole and will not become so."""

    code: str
    message: str
    retryable: bool
    status: int
    timestamp_ms: int
    retry_after_s: float | None = None
    is_terminal: ClassVar[bool] = True


class Record(NamedTuple):
    """An event at its place: `seq` counts from 1 in its stream, without gaps."""

    seq: int
    event: Event


as_record: Callable[[tuple[int, Event]], Record] = partial(tuple.__new__, Record)
"""A pair as a record, the same as `Record(*pair)` but without a step through Python: it is made for each token."""


def weigh_json(encoded: bytes) -> int:
    """Bytes that a value takes in memory, roughly, from its JSON: small members take far more than their text."""
    return len(encoded) + MEMBER_BYTES * (encoded.count(b"{") + encoded.count(b"[") + encoded.count(b","))


def nests_deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects nest deeper than `limit`; without recursion, which would be the attack."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def has_content(events: Sequence[Event]) -> bool:
    """Whether an answer has begun with any of these."""
    for event in events:  # noqa: SIM110  # once for each token: a generator would cost more than all the rest
        if event.is_content:
            return True
    return False
