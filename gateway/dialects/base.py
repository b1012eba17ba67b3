"""Dialect: how a client asks and how it is answered."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from gateway.errors import GatewayError
from gateway.events import Event, Record, Warned
from gateway.request import StreamRequest
from gateway.sse import Frame
from gateway.streams.stream import Stream

JSON_NESTING_MAX = 64
"""Deeper JSON than this is no question; some parsers further on would fall over it."""


class TextLayout(NamedTuple):
    """How the frame of a piece of text looks: its `event`, the data around the token's JSON, the id before the seq.

    `id_prefix` is empty where frames have no ids.
    """

    before: bytes
    after: bytes
    event: bytes = b""
    id_prefix: bytes = b""


class Encoder(Protocol):
    """One stream in one dialect. A pure function of the record, so that readers of a stream can share frames."""

    can_replace: bool
    """Whether text that a client has can be taken back (`replace`)."""

    @property
    def layout(self) -> TextLayout | None:
        """How `encode` tells a `Text`, where that depends on nothing but its token and seq: sinks prepare it once."""

    @property
    def key(self) -> tuple[object, ...]:
        """Equal keys make equal frames for the same stream."""

    def hello(self, *, resumed: bool, retry_ms: int) -> Sequence[Frame]:
        """First on every connection; no ids."""

    def encode(self, record: Record) -> Sequence[Frame]:
        """The frames of a logged event, the id on the last of them; often one, sometimes none."""

    def notice(self, event: Event) -> Sequence[Frame]:
        """An event that is not in the log, for this connection only; no ids."""

    def lost(self, warning: Warned) -> Sequence[Frame]:
        """Last words where `can_replace` is false and the place of a reader is lost."""

    def farewell(self, reason: str, *, retry_ms: int = 0) -> Sequence[Frame]:
        """Last words on this connection. With `retry_ms` the stream goes on and the client should come back."""


class Dialect(Protocol):
    """A way to ask and to be answered."""

    name: str
    holds_headers: bool
    """Whether status and headers wait for the first content, so that an early failure is a real HTTP status."""
    resumable: bool
    """Whether its events carry ids to come back with."""

    def parse(self, body: bytes) -> StreamRequest:
        """What a body asks. Raises `INVALID_JSON` or `INVALID_REQUEST`, naming the field and what is allowed."""

    def encoder(self, stream: Stream, *, unnamed: bool) -> Encoder:
        """How `stream` is told; `unnamed` puts the events' names inside their data."""

    def fold(self, stream: Stream, said: Sequence[Event]) -> Mapping[str, Any]:
        """The JSON body that tells the whole of a completed answer; `said` is all of its events."""

    def refusal(self, error: GatewayError) -> Mapping[str, Any]:
        """The JSON body of an error before the first byte."""
