"""A log record as one line of JSON."""

import json
import logging
import time
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """What happened, how grave, when and where; then what was given as `extra`, and an exception as text.

    A record's exception must be text already. For one thread only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._told_second = ""

    def format(self, record: logging.LogRecord) -> str:
        """One line; control characters inside values are escaped by JSON itself."""
        fields: dict[str, Any] = {"event": record.getMessage()}
        if record.stack_info:
            fields["stack_info"] = record.stack_info
        fields["level"] = record.levelname.lower()
        fields["timestamp"] = self._time(record.created)
        fields["logger"] = record.name
        given = vars(record)
        if request_id := given.get("_request_id"):
            fields["request_id"] = request_id
        fields |= given["_facts"] if "_facts" in given else _extra(given)
        if record.exc_text:
            fields["exception"] = record.exc_text
        return _as_json(fields)

    def _time(self, moment: float) -> str:
        """UTC, as ISO 8601 has it. Lines come by the thousand in a second, so the second is kept."""
        second = int(moment)
        if second != self._second:
            self._second, self._told_second = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return "%s.%06dZ" % (self._told_second, (moment - second) * 1_000_000)  # noqa: UP031  (half the price)


def _extra(given: dict[str, Any]) -> dict[str, Any]:
    # A copy, because another handler may note something in the record meanwhile.
    return {name: value for name, value in given.copy().items() if name not in _STANDARD and name[0] != "_"}


def _as_json(fields: dict[str, Any]) -> str:
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Half a surrogate pair, or a number beyond 64 bits: slower, but no line is lost.
        return json.dumps(fields, default=str)
