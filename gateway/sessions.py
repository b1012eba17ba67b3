"""Sessions: the memory of conversations and the likings of users, and the few verbs of their keepers."""

from typing import NamedTuple, Protocol

from gateway.request import Caller, Preferences


class Exchange(NamedTuple):
    """One turn of a conversation: a question and its answer, made by the stream `sid`. Times in Unix seconds."""

    sid: str
    question: str
    answer: str
    asked_s: int
    answered_s: int

    @property
    def size(self) -> int:
        """Bytes that it takes to keep, about."""
        return len(self.question.encode(errors="surrogatepass")) + len(self.answer.encode(errors="surrogatepass"))


class SessionBounds(NamedTuple):
    """How much of a conversation is kept, and how long after its last turn.

    `max_sessions` of them in all: those that were silent longest go first. Of each the newest `max_turns`, and of those
    as many as fit into `max_bytes`.
    """

    max_sessions: int
    max_turns: int
    max_bytes: int
    ttl_s: float


class SessionStore(Protocol):
    """Keeps conversations, each for a time after its last turn. A session belongs to its owner: tenant and user,
    or tenant alone where no user is named; the same name under another owner is another session."""

    async def read(self, owner: Caller, session: str) -> list[Exchange]:
        """What was said, the oldest first; nothing where nothing is known. Raises `STORE_AWAY`."""

    def write(self, owner: Caller, session: str, exchange: Exchange) -> None:
        """Add a turn at its end, unless one of the same stream is there, and keep it for its time again; never waits.

        A turn too large for `SessionBounds.max_bytes` is kept as far as it fits.
        """

    def unwritten(self, owner: Caller, session: str) -> list[Exchange]:
        """Turns that were written here and are not yet where all processes see them, the oldest first."""

    async def delete(self, owner: Caller, session: str) -> bool:
        """Forget it; whether there was anything. Raises `STORE_AWAY`."""

    async def close(self) -> None:
        """Write what is left, as far as can be."""


class PreferenceStore(Protocol):
    """Keeps how users like to be answered, each for a time after it was said."""

    async def read(self, owner: Caller) -> Preferences | None:
        """What the user said last. Raises `STORE_AWAY`."""

    async def write(self, owner: Caller, preferences: Preferences) -> None:
        """Keep it in place of what was said before. Raises `STORE_AWAY`."""


def fitted(exchange: Exchange, max_bytes: int) -> Exchange:
    """The same turn with its question and answer cut where they do not fit: the beginning of each is kept."""
    # Before anything is weighed: it may be of any size.
    short = exchange._replace(question=exchange.question[:max_bytes], answer=exchange.answer[:max_bytes])
    if short.size <= max_bytes:
        return short
    question = _cut(short.question, max_bytes // 2)
    rest = max_bytes - len(question.encode(errors="surrogatepass"))
    return short._replace(question=question, answer=_cut(short.answer, rest))


def _cut(text: str, max_bytes: int) -> str:
    return text.encode(errors="surrogatepass")[:max_bytes].decode(errors="ignore")


def trimmed(exchanges: list[Exchange], bounds: SessionBounds) -> list[Exchange]:
    """As many of the newest as may be kept."""
    kept, size = list[Exchange](), 0
    for exchange in reversed(exchanges[-bounds.max_turns :]):
        size += exchange.size
        if kept and size > bounds.max_bytes:
            break
        kept.append(exchange)
    return kept[::-1]
