"""Inbox: small messages from one instance to another, through a short Redis stream that the other reads."""

import logging
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import orjson

from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.streams.ids import SID_PATTERN

log = logging.getLogger(__name__)

MESSAGES_MAX = 10_000
"""About so many are kept for an instance that does not read; the oldest are dropped."""

KEPT_MS = 5 * 60_000
"""Behind the last message, so that nothing is left behind by instances that are gone."""

_SID = re.compile(SID_PATTERN)

Value = str | int | bool
"""What a message may carry by name."""


class Kind(StrEnum):
    """The closed set."""

    CANCEL = "cancel"
    """To the producer: end this stream as cancelled."""
    READING = "reading"
    """To the producer: the sender has readers of this stream."""
    LEFT = "left"
    """To the producer: the sender's last reader of this stream is gone."""
    SUPERSEDE = "supersede"
    """To the producer: the stream's session has asked something new; if nobody reads it, end it."""
    WAKE = "wake"
    """Look at this stream again."""


class Message(NamedTuple):
    """What one instance says to another about a stream. It may come twice, or never."""

    kind: Kind
    sid: str
    sender: str
    more: Mapping[str, Value]


class Inbox:
    """The messages of `instance`: sends its own, understands those that were sent to it."""

    def __init__(self, courier: Courier, keys: Keys, instance: str) -> None:
        self._courier = courier
        self._keys = keys
        self._instance = instance
        self.key = keys.inbox(instance)
        """The Redis stream to be read."""

    @staticmethod
    def start_id() -> str:
        """Behind which entry to begin: the very first, since an instance's id and hence its inbox is new."""
        return "0-0"

    async def send(self, instance: str, kind: Kind, sid: str, **more: Value) -> None:
        """Leave a message for `instance`. Raises what the client raises; the message may have arrived all the same."""
        key = self._keys.inbox(instance)
        fields = ("kind", kind, "sid", sid, "from", self._instance, "more", orjson.dumps(more))

        def put(batch: Batch) -> None:
            batch.add("XADD", key, "MAXLEN", "~", MESSAGES_MAX, "*", *fields)
            batch.add("PEXPIRE", key, KEPT_MS)

        for reply in await self._courier.carry(put):
            if isinstance(reply, Exception):
                raise reply

    async def wake(self, sid: str) -> None:
        """End a read of this inbox that waits, because `sid` is to be read as well."""
        await self.send(self._instance, Kind.WAKE, sid)


def parse(fields: Mapping[bytes, bytes]) -> Message | None:
    """The message that an entry holds. None, and a line in the log, for one that is broken or of a later version."""
    try:
        sid = fields[b"sid"].decode()
        if _SID.fullmatch(sid) is None:
            raise ValueError("not a stream's id")
        return Message(Kind(fields[b"kind"].decode()), sid, fields[b"from"].decode(), _flat(fields[b"more"]))
    except (KeyError, ValueError) as error:
        log.warning("a message was not understood", extra={"error": str(error)[:100]})
        return None


def _flat(text: bytes) -> dict[str, Value]:
    """Raises ValueError for what is not a flat JSON object."""
    more = orjson.loads(text)
    if not isinstance(more, dict) or not all(isinstance(value, Value) for value in more.values()):
        raise ValueError("not a flat object")
    return more
