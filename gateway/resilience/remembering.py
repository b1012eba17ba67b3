"""Remembering: a conversation's earlier turns are put before its next question, and each turn is kept when it ends.

The source is told apart from the request that is stored: the request stays what its caller asked, so that its
fingerprint, and whoever takes the stream over, see the same. The owner is the stream's, wherever it is made.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from gateway.errors import GatewayError
from gateway.events import Warned
from gateway.request import CHARACTERS_PER_TOKEN, StreamRequest
from gateway.resilience.instructed import instructed, instruction_of
from gateway.sessions import Exchange, SessionStore
from gateway.sources.base import Source
from gateway.streams.stream import State, Stream
from gateway.telemetry.metrics import Account

log = logging.getLogger(__name__)

SESSION_UNAVAILABLE = Warned(
    "SESSION_UNAVAILABLE", "the memory of this conversation cannot be read now; the answer is made without it"
)

Brief = Callable[[Stream], Awaitable[StreamRequest]]
"""Gives the request of a stream as its source is to hear it. May append to the stream aside; must not raise."""

MESSAGE_TOKENS = 4
"""What a message takes beside its text: its role and borders."""


class Remembering:
    """Briefs sources with what was said before, and is a `Witness` of how it went on.

    `context_tokens` bounds what of a conversation is put before a question, by estimate.
    """

    def __init__(self, store: SessionStore, *, context_tokens: int, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._context_tokens = context_tokens
        self._clock = clock

    async def brief(self, stream: Stream) -> StreamRequest:
        """The stream's request as its source is to hear it; the stream is warned where the memory is away."""
        request = stream.request
        if remembers(request):
            turns = newest(await self._turns(stream), self._context_tokens)
            request = recalled(request, turns)
        return instructed(request)

    async def _turns(self, stream: Stream) -> Sequence[Exchange]:
        session = stream.owner.kept_as(stream.request.session_id or "")
        try:
            return await self._store.read(stream.owner, session)
        except GatewayError as error:
            log.warning("a conversation could not be read: %s", error, extra={"stream_id": stream.sid})
        stream.aside(SESSION_UNAVAILABLE)
        return self._store.unwritten(stream.owner, session)

    def brief_for(self, source: Source, request: StreamRequest) -> Brief | None:
        """What a pipeline is to be given; nothing where the source may hear the request as it is.

        An exact source gives the same events for the same request: with a memory that changes it would not.
        """
        wanted = not source.exact and (remembers(request) or instruction_of(request))
        return self.brief if wanted else None

    # A Witness.

    def opened(self, stream: Stream) -> None:
        """Nothing was said yet."""

    def ended(self, stream: Stream, account: Account) -> None:
        """Keep the turn, where somebody may come back to it: what was completed, and what was seen of the cancelled."""
        request = stream.request
        if request.session_id is None or stream.state not in (State.COMPLETED, State.CANCELLED):
            return
        question, answer = request.question(), stream.text()
        if question and answer:
            now_s = int(self._clock())
            turn = Exchange(stream.sid, _whole(question), _whole(answer), stream.created_s, now_s)
            self._store.write(stream.owner, stream.owner.kept_as(request.session_id), turn)


def remembers(request: StreamRequest) -> bool:
    """Whether earlier turns belong before the question: not where the caller brings its own."""
    return request.session_id is not None and all(message.get("role") != "assistant" for message in request.messages)


def newest(turns: Sequence[Exchange], tokens: int) -> list[Exchange]:
    """The newest whole turns that fit, the oldest first."""
    kept: list[Exchange] = []
    for turn in reversed(turns):
        tokens -= (len(turn.question) + len(turn.answer)) // CHARACTERS_PER_TOKEN + 2 * MESSAGE_TOKENS
        if tokens < 0:
            break
        kept.append(turn)
    return kept[::-1]


def recalled(request: StreamRequest, turns: Sequence[Exchange]) -> StreamRequest:
    """The same question with `turns` before it, behind the caller's instructions."""
    if not turns:
        return request
    at = 0
    while at < len(request.messages) and request.messages[at].get("role") in ("system", "developer"):
        at += 1
    said = [
        message
        for turn in turns
        for message in (
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        )
    ]
    return replace(request, messages=(*request.messages[:at], *said, *request.messages[at:]))


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which no JSON can hold."""
    return text.encode(errors="replace").decode()
