"""Everything that can go wrong, as a closed set of codes that know their answer.

An error has two exits. Before the first byte of an answer it becomes an HTTP status with a JSON
body (`routes.refusals`); after it, the pipeline appends it to the log as the terminal `error` event.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


class Spec(NamedTuple):
    """What a code means to a client: its HTTP status, whether asking again can help, and why."""

    status: int
    retryable: bool
    meaning: str


class Code(Enum):
    """The closed set. The name of a member is the code on the wire."""

    # What the caller did.
    INVALID_JSON = Spec(400, False, "The body is not valid UTF-8 JSON, or nests too deep.")
    INVALID_REQUEST = Spec(400, False, "A field is missing, unknown, of the wrong type or out of range.")
    INVALID_EVENT_ID = Spec(400, False, "A Last-Event-ID or stream id does not have the form of one.")
    UNKNOWN_DIALECT = Spec(400, False, "The dialect asked for is not one that the gateway speaks.")
    CREDENTIAL_IN_QUERY = Spec(400, False, "An API key or token stood in the query string, where logs would keep it.")
    UNAUTHENTICATED = Spec(401, False, "No valid API key, token or ticket came with the request.")
    FORBIDDEN = Spec(403, False, "The caller is known, but may not do this.")
    ORIGIN_NOT_ALLOWED = Spec(403, False, "The page's origin is not one of the tenant's.")
    FEATURE_NOT_ALLOWED = Spec(403, False, "The tenant has not been given this feature.")
    MODEL_NOT_ALLOWED = Spec(403, False, "The model is not one of the tenant's.")
    UNKNOWN_MODEL = Spec(404, False, "No pipeline serves the model asked for.")
    NOT_FOUND = Spec(404, False, "No such path.")
    STREAM_NOT_FOUND = Spec(404, False, "No such stream, or it is somebody else's.")
    SESSION_NOT_FOUND = Spec(404, False, "No such session, or it is somebody else's.")
    METHOD_NOT_ALLOWED = Spec(405, False, "The path exists, but not with this method.")
    REQUEST_TIMEOUT = Spec(408, True, "The request's body did not arrive in time.")
    CANCELLED = Spec(409, False, "The stream was cancelled.")
    STREAM_EXPIRED = Spec(410, False, "The stream existed, but its log is no longer kept.")
    BODY_TOO_LARGE = Spec(413, False, "The body is larger than `server.max_body_bytes`.")
    INPUT_TOO_LARGE = Spec(413, False, "The question has more text, or more messages, than are taken.")
    UNSUPPORTED_MEDIA_TYPE = Spec(415, False, "The body is not `application/json`.")
    IDEMPOTENCY_MISMATCH = Spec(422, False, "The same idempotency key came with a different request.")
    HEADERS_TOO_LARGE = Spec(431, False, "A header or the request line is too large.")
    BAD_HTTP = Spec(400, False, "The request is not well-formed HTTP.")
    RATE_LIMITED = Spec(429, True, "Streaming rate limit exceeded")
    TOO_MANY_STREAMS = Spec(429, True, "The caller, or its tenant, has as many streams running as it may.")
    BUDGET_EXCEEDED = Spec(429, True, "The tokens that may be used in a day are used up.")
    # What the gateway cannot do now.
    OVERLOADED = Spec(503, True, "The process holds as many streams or connections as it may.")
    QUEUE_FULL = Spec(503, True, "All streams are taken, and so are the places to wait for one.")
    QUEUE_TIMEOUT = Spec(503, True, "No stream came free within the time that a question waits.")
    STORE_FULL = Spec(503, True, "Live streams fill the memory set aside for logs.")
    STORE_AWAY = Spec(503, True, "The store that processes share (Redis) does not answer.")
    DRAINING = Spec(503, True, "The process is going away; another one will answer.")
    STREAMING_DISABLED = Spec(
        503, False, "Streaming is switched off, or not yet on for this caller; ask for the plain answer instead."
    )
    INTERNAL = Spec(500, True, "A fault of the gateway; the request id finds it in the log.")
    # What the upstream did.
    UPSTREAM_UNAVAILABLE = Spec(502, True, "The upstream could not be reached: refused, reset or not resolved.")
    UPSTREAM_TLS = Spec(502, False, "The upstream's certificate or TLS handshake was not acceptable.")
    UPSTREAM_AUTH = Spec(502, False, "The upstream refused the gateway's own credentials (401 or 403).")
    UPSTREAM_REJECTED = Spec(400, False, "The upstream refused the request as wrong (4xx).")
    UPSTREAM_RATE_LIMITED = Spec(429, True, "The upstream is limiting requests; see Retry-After.")
    UPSTREAM_ERROR = Spec(502, True, "The upstream failed (5xx), or said so inside its stream.")
    UPSTREAM_TIMEOUT = Spec(504, True, "The upstream did not connect, begin, go on or end in time.")
    UPSTREAM_TRUNCATED = Spec(502, True, "The upstream's stream ended without its terminal marker.")
    UPSTREAM_PROTOCOL = Spec(502, True, "The upstream sent what is not the protocol.")
    PRODUCER_LOST = Spec(502, True, "The process that made the answer is gone, and nobody could go on with it.")
    OUTPUT_LIMIT = Spec(502, False, "The answer grew beyond `stream.max_output_bytes`.")

    @property
    def status(self) -> int:
        """The HTTP status before the first byte."""
        return self.value.status

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.value.retryable

    @property
    def meaning(self) -> str:
        """One sentence for the documentation."""
        return self.value.meaning


class GatewayError(Exception):
    """An error with an answer.

    `status` differs from the code's own where an upstream's status is passed on. `retry_after_s` is
    in seconds. `param` names the offending field, `headers` are what the answer carries besides. The message goes
    to clients: it never holds input that a client sent, a secret, or an address inside the house.
    """

    def __init__(
        self,
        code: Code,
        message: str = "",
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        param: str | None = None,
        allowed: list[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.message = message or code.meaning
        self.status = status or code.status
        self.retry_after_s = retry_after_s
        self.param = param
        self.allowed = allowed
        self.headers = headers or {}
        self.ended_a_stream = False
        """Whether a stream existed and ended with it: asking again would be a second generation."""
        super().__init__(f"{code.name}: {self.message}")

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code.retryable


class ClientGone(Exception):
    """The client's connection is lost; nothing more can be written to it."""


class SlowClient(Exception):
    """The client took nothing for too long, or lags too far behind."""
