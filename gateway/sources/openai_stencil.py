"""Stencil: the chunks of one answer differ in nothing but their token, so that one that was read stands for the rest.

What it says of a chunk is exactly what reading it as JSON would say; where that is not certain, it says nothing.
"""

from typing import Any

import orjson

from gateway.events import Event, Text

TRIES_MAX = 8
"""An upstream that changes more than the token from chunk to chunk is left alone after so many."""

_PROBE = "#"
_LINE, _END = b"data: ", b"\n\n"


class Stencil:
    """Knows the bytes of an SSE event, at most `max_event_bytes` of them, before and behind its token."""

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._before = self._after = b""
        self._inside = slice(0, 0)
        self._tries = 0

    def token(self, event: bytes) -> str | None:
        """The token of an event that is the known one but for it; None where it is not, or not plainly written."""
        before = self._before
        if not before or not event.startswith(before) or not event.endswith(self._after):
            return None
        try:
            token = event[self._inside].decode()
        except UnicodeDecodeError:
            return None
        if token.isprintable() and token and '"' not in token and "\\" not in token:
            # As it stands it is the inside of a JSON string, and of one line.
            return token if len(event) <= self._max_event_bytes else None
        return None

    def forget(self) -> None:
        """Know nothing, and learn nothing more: the answer is over."""
        self._before, self._tries = b"", TRIES_MAX

    def learn(self, event: bytes, said: list[Event]) -> None:
        """`event` is whole, and `said` is all that it says: if that is a token, know it from now on."""
        if self._tries == TRIES_MAX or len(said) != 1 or type(said[0]) is not Text:
            return
        before, found, after = event.rpartition(orjson.dumps(said[0]))
        self._tries += bool(found)
        if found and _is_one_line(event) and _changes_the_token_only(event, b'%b"#"%b' % (before, after)):
            self._before, self._after = before + b'"', b'"' + after
            self._inside = slice(len(self._before), -len(self._after))


def _is_one_line(event: bytes) -> bool:
    data = event.removeprefix(_LINE).removesuffix(_END)
    return len(data) == len(event) - len(_LINE) - len(_END) and b"\n" not in data and b"\r" not in data


def _changes_the_token_only(event: bytes, other: bytes) -> bool:
    """Whether `other` is the same chunk but for its token, which is the probe, and whether it says nothing besides.

    A finish reason, usage and the like have been noted; were they in every chunk, they would not be noted again.
    """
    chunk, probe = (_json(each.removeprefix(_LINE).removesuffix(_END)) for each in (event, other))
    try:
        (choice,) = chunk["choices"]
        choice["delta"]["content"] = _PROBE
        silent = not (choice.get("finish_reason") or choice.get("logprobs") or chunk.get("usage"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return silent and chunk == probe


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
