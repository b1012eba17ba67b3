"""The body of an error before the first byte, in each dialect's own shape."""

import time
from typing import Any

from gateway.errors import GatewayError


def native_refusal(error: GatewayError) -> dict[str, Any]:
    """`status`, `code`, `message`, `error`, `retryable`, `timestamp` (ms); `field` and `allowed` where they help."""
    body: dict[str, Any] = {
        "status": error.status,
        "code": error.code.name,
        "message": error.message,
        "error": error.code.meaning,
        "retryable": error.retryable,
        "timestamp": int(time.time() * 1000),
    }
    if error.param is not None:
        body["field"] = error.param
    if error.allowed is not None:
        body["allowed"] = error.allowed
    return body


def openai_refusal(error: GatewayError) -> dict[str, Any]:
    """OpenAI's envelope (API reference, "errors"): clients raise the class that fits the HTTP status."""
    return {"error": openai_error(error.message, error.code.name, error.status, error.param)}


def openai_error(message: str, code: str, status: int, param: str | None = None) -> dict[str, Any]:
    """The object inside the envelope, and inside a stream's error frame."""
    return {"message": message, "type": _type_of(status), "param": param, "code": code}


def _type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    if status in (401, 403):
        return "authentication_error"
    return "invalid_request_error" if status < 500 else "server_error"
