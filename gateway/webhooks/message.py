"""Message: one thing that happened, as a receiver is told it, and the signature by which it knows that we said so.

The form is that of Standard Webhooks (standardwebhooks.com, specification 1.0).
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from pydantic import SecretStr

from gateway.randomness import Names
from gateway.streams.ids import ALPHABET

OPENED, COMPLETED, FAILED, CANCELLED = "stream.opened", "stream.completed", "stream.failed", "stream.cancelled"
ROLLED_BACK = "flag.rolled_back"
TYPES = (OPENED, COMPLETED, FAILED, CANCELLED, ROLLED_BACK)
"""The closed set of what a receiver can be told, and what `events` of a target may name."""

SECRET_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
_IDS = Names(ALPHABET, 24)


class Message(NamedTuple):
    """What is sent, the same bytes however often. Those with the same `about` are sent one after the other."""

    id: str
    type: str
    about: str
    body: bytes


def message(kind: str, about: str, data: dict[str, Any], now_s: float) -> Message:
    """That `kind` happened at `now_s`, in seconds since the epoch."""
    name = f"msg_{_IDS.new()}"
    happened = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds")
    told = {"type": kind, "id": name, "timestamp": happened, "data": data}
    return Message(name, kind, about, orjson.dumps(told))


def key_of(secret: SecretStr) -> bytes:
    """What signs: `whsec_` and 24 to 64 bytes in base64. Raises ValueError for anything else, without telling it."""
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(SECRET_PREFIX) or len(key) not in _KEY_BYTES:
        raise ValueError("must be whsec_ and 24 to 64 random bytes in base64")
    return key


def signed(told: Message, keys: Iterable[bytes], now_s: float) -> dict[str, str]:
    """The headers of an attempt that is made at `now_s`: each key signs, so that a receiver may know either."""
    timestamp = str(int(now_s))
    content = b"%b.%b.%b" % (told.id.encode(), timestamp.encode(), told.body)
    signatures = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": told.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
