"""Errors before the first byte, in the groups in which routes can meet them."""

from gateway.errors import Code

KNOWN = (
    Code.UNAUTHENTICATED,
    Code.FORBIDDEN,
    Code.ORIGIN_NOT_ALLOWED,
    Code.CREDENTIAL_IN_QUERY,
    Code.INVALID_REQUEST,
    Code.RATE_LIMITED,
    Code.STORE_AWAY,
)
"""What the door says before it knows who asks, and so of every route that wants to know."""

BODY = (
    Code.INVALID_JSON,
    Code.INVALID_REQUEST,
    Code.REQUEST_TIMEOUT,
    Code.BODY_TOO_LARGE,
    Code.INPUT_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
)
"""What can be wrong with a body."""

ADMITTED = (
    Code.UNKNOWN_MODEL,
    Code.FEATURE_NOT_ALLOWED,
    Code.MODEL_NOT_ALLOWED,
    Code.IDEMPOTENCY_MISMATCH,
    Code.TOO_MANY_STREAMS,
    Code.BUDGET_EXCEEDED,
    Code.QUEUE_FULL,
    Code.STORE_FULL,
    Code.DRAINING,
    Code.STREAMING_DISABLED,
)
"""Why no stream is opened for a question that is well-formed."""

FOUND = (Code.STREAM_NOT_FOUND, Code.STREAM_EXPIRED, Code.INVALID_EVENT_ID)
"""Why a stream cannot be read."""

ASKED_UPSTREAM = (
    Code.UPSTREAM_UNAVAILABLE,
    Code.UPSTREAM_TLS,
    Code.UPSTREAM_AUTH,
    Code.UPSTREAM_REJECTED,
    Code.UPSTREAM_RATE_LIMITED,
    Code.UPSTREAM_ERROR,
    Code.UPSTREAM_TIMEOUT,
    Code.UPSTREAM_PROTOCOL,
)
"""What comes of asking an upstream."""

ANSWERED = (
    *ASKED_UPSTREAM,
    Code.UPSTREAM_TRUNCATED,
    Code.PRODUCER_LOST,
    Code.OUTPUT_LIMIT,
    Code.QUEUE_TIMEOUT,
    Code.CANCELLED,
)
"""How an answer can end before its client was told anything."""
