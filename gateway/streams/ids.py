"""Names of streams and places in them: `{sid}-{epoch}-{seq}` on the wire."""

import re
from typing import NamedTuple

from gateway.errors import Code, GatewayError
from gateway.randomness import Names

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SID_LENGTH = 22
"""Base62 characters that hold 128 random bits."""

SID_PATTERN = f"[0-9A-Za-z]{{{SID_LENGTH}}}"
PLACE_PATTERN = rf"({SID_PATTERN})-([1-9][0-9]{{0,8}})-(0|[1-9][0-9]{{0,14}})"
_PLACE = re.compile(PLACE_PATTERN)


class Place(NamedTuple):
    """Where a reader was: everything up to `seq` of `epoch` has been seen."""

    sid: str
    epoch: int
    seq: int


_SIDS = Names(ALPHABET, SID_LENGTH)


def new_sid() -> str:
    """A name nobody can guess; it is no credential all the same, the owner is checked as well."""
    return _SIDS.new()


def parse_place(text: str) -> Place:
    """The place that an event id names. Raises `INVALID_EVENT_ID` for anything that is not exactly one."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise GatewayError(Code.INVALID_EVENT_ID, "Last-Event-ID is not of the form {stream}-{epoch}-{seq}")
    return Place(match[1], int(match[2]), int(match[3]))
