"""Logs: one JSON object a line, whoever logs, and never in the way of the loop."""

import io
import json
import logging
import threading
from collections.abc import Iterator

import orjson
import pytest

from gateway.telemetry import logs


@pytest.fixture
def written(logging_undone: None) -> Iterator[tuple[io.StringIO, logs.QueuedLines]]:
    """A set-up logging that writes to a string, undone afterwards."""
    stream = io.StringIO()
    handler = logs.set_up("info", stream)
    yield stream, handler
    handler.close()


def test_a_line_is_one_json_object_with_its_facts(written: tuple[io.StringIO, logs.QueuedLines]) -> None:
    """Message, level, time, logger, request id and what was given as extra."""
    stream, handler = written
    token = logs.request_id.set("r-1234567")
    logging.getLogger("gateway.hub").info("stream %s", "opened", extra={"stream_id": "s1", "outcome": "a\nb\x1b[31m"})
    logs.request_id.reset(token)
    handler.close()
    (line,) = stream.getvalue().splitlines()
    fields = orjson.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {
        "event": "stream opened",
        "level": "info",
        "logger": "gateway.hub",
        "request_id": "r-1234567",
        "stream_id": "s1",
        "outcome": "a\nb\x1b[31m",
    }
    assert "\x1b" not in line


def test_an_exception_is_told_in_the_same_line(written: tuple[io.StringIO, logs.QueuedLines]) -> None:
    """A traceback does not break the form."""
    stream, handler = written
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("x").exception("it happened")
    handler.close()
    (line,) = stream.getvalue().splitlines()
    assert "RuntimeError: broken" in orjson.loads(line)["exception"]


def test_odd_values_cost_no_line(written: tuple[io.StringIO, logs.QueuedLines]) -> None:
    """Half a surrogate pair and a number beyond 64 bits are written all the same, still as JSON."""
    stream, handler = written
    logging.getLogger("x").info("half \ud800", extra={"count": 2**70, "what": {1, 2}})
    handler.close()
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert (fields["event"], fields["count"], fields["what"]) == ("half \ud800", 2**70, "{1, 2}")


def test_libraries_are_heard_only_when_they_warn(written: tuple[io.StringIO, logs.QueuedLines]) -> None:
    """Their INFO holds addresses and whole requests."""
    stream, handler = written
    logging.getLogger("aiohttp.client").info("POST …")
    logging.getLogger("aiohttp.server").warning("odd")
    logging.getLogger("gateway").debug("not at this level")
    handler.close()
    assert [orjson.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["odd"]


class _StuckStream(io.StringIO):
    """A pipe whose reader has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.go_on.wait(10)
        return super().write(text)


def test_a_stuck_reader_costs_lines_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into the queue is dropped and counted."""
    monkeypatch.setattr(logs, "QUEUE_MAX_LINES", 5)
    stream = _StuckStream()
    dropped: list[int] = []
    handler = logs.QueuedLines(stream, dropped.append)
    for number in range(20):
        handler.emit(logging.makeLogRecord({"msg": str(number)}))
    assert len(dropped) >= 14
    stream.go_on.set()
    handler.close()
    assert stream.getvalue().splitlines()[:3] == ["0", "1", "2"]


def test_a_closed_stream_is_counted_not_raised() -> None:
    """Standard error may be gone before we are."""
    stream = io.StringIO()
    dropped: list[int] = []
    stream.close()
    handler = logs.QueuedLines(stream, dropped.append)
    handler.emit(logging.makeLogRecord({"msg": "late"}))
    handler.close()
    assert dropped == [1]
