"""How lines get out: in order, many in a write, a lone one at once, none torn, changed or lost without a word."""

import gc
import io
import json
import logging
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from gateway.telemetry import logs
from gateway.telemetry.jsonlines import JsonLines

LIMIT_S = 20


class _Pipe(io.StringIO):
    """Keeps each write, and takes none while its reader is away."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.asked = threading.Event()
        self.reader_is_there = threading.Event()
        self.reader_is_there.set()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.reader_is_there.wait(LIMIT_S)
        self.writes.append(text)
        return len(text)

    def lines(self) -> list[dict[str, object]]:
        """What came out, read as JSON."""
        return [json.loads(line) for line in "".join(self.writes).splitlines()]


@pytest.fixture
def pipe() -> _Pipe:
    """Where lines go."""
    return _Pipe()


@pytest.fixture
def dropped() -> list[int]:
    """What was said to be dropped."""
    return []


@pytest.fixture
def handler(pipe: _Pipe, dropped: list[int]) -> Iterator[logs.QueuedLines]:
    """A handler of its own, without the logging of the process."""
    handler = logs.QueuedLines(pipe, dropped.append)
    handler.setFormatter(JsonLines())
    yield handler
    pipe.reader_is_there.set()
    handler.close()


@pytest.fixture
def log(handler: logs.QueuedLines) -> logging.Logger:
    """A logger that has this handler alone."""
    log = logging.Logger("gateway.test", logging.INFO)
    log.addHandler(handler)
    return log


def _hold_up(pipe: _Pipe, log: logging.Logger) -> None:
    """Log a first line and wait until the thread is stuck with it, so that all that follows must wait."""
    pipe.reader_is_there.clear()
    log.info("first")
    assert pipe.asked.wait(LIMIT_S)


def test_a_lone_line_appears_at_once(pipe: _Pipe, log: logging.Logger) -> None:
    """It waits neither for a second one nor for the end; nor does the next, but for a moment."""
    for _ in range(2):
        pipe.asked.clear()
        log.info("alone")
        assert pipe.asked.wait(LIMIT_S)


def test_lines_keep_their_order_and_share_writes(
    pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines, dropped: list[int]
) -> None:
    """What came while the thread was busy goes out in few writes of whole lines, none more than a pipe takes whole."""
    _hold_up(pipe, log)
    for number in range(2000):
        log.info("line", extra={"number": number, "text": "é" * (number % 50)})
    pipe.reader_is_there.set()
    handler.close()
    assert [line.get("number") for line in pipe.lines()] == [None, *range(2000)]
    assert len(pipe.writes) < 500
    assert all(written.endswith("\n") for written in pipe.writes)
    assert max(len(written.encode()) for written in pipe.writes) <= select.PIPE_BUF
    assert dropped == []


def test_a_line_longer_than_a_pipe_takes_whole_is_a_write_of_its_own(
    pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines
) -> None:
    """As whole as it can be, and nobody else's line is in the same danger."""
    _hold_up(pipe, log)
    for text in ("short", "long" * select.PIPE_BUF, "short again"):
        log.info(text)
    pipe.reader_is_there.set()
    handler.close()
    assert [len(written.splitlines()) for written in pipe.writes] == [1, 1, 1, 1]


def test_a_line_says_what_was_so_when_it_was_logged(
    pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines
) -> None:
    """Arguments, facts, the request and the time are those of that moment, not of the moment of writing."""
    _hold_up(pipe, log)
    before = datetime.now(UTC)
    seen, facts = [1], {"count": 1}
    token = logs.request_id.set("r-then")
    log.info("saw %s", seen)
    logs.tell(log, logging.INFO, "told", facts)
    after = datetime.now(UTC)
    logs.request_id.reset(token)
    seen.append(2)
    facts["count"] = 2
    pipe.reader_is_there.set()
    handler.close()
    _, line, told = pipe.lines()
    assert (line["event"], line["request_id"]) == ("saw [1]", "r-then")
    assert (told["event"], told["count"], told["request_id"]) == ("told", 1, "r-then")
    # The clock has digits below the microsecond; the line has not.
    at = datetime.fromisoformat(str(line["timestamp"]))
    assert before.timestamp() - 0.000_002 <= at.timestamp() <= after.timestamp()


def test_a_line_that_waits_keeps_nothing_alive(pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines) -> None:
    """An exception is made text at once, so that its frames and what they hold may go."""

    class Held:
        """Something large."""

    _hold_up(pipe, log)

    def fail() -> "weakref.ref[Held]":
        held = Held()
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            log.exception("it happened to %s", held)
        return weakref.ref(held)

    held = fail()
    gc.collect()
    assert held() is None
    pipe.reader_is_there.set()
    handler.close()
    assert "in fail" in str(pipe.lines()[1]["exception"])


def test_a_line_that_cannot_be_put_together_is_complained_of_by_the_thread(
    pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines, dropped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as dropped, those around it come out, and whoever logged it does not wait for the complaint."""
    complaining: list[str] = []
    monkeypatch.setattr(handler, "handleError", lambda _: complaining.append(threading.current_thread().name))
    _hold_up(pipe, log)
    log.info("%d things", "many")
    log.info("last")
    pipe.reader_is_there.set()
    handler.close()
    assert [line["event"] for line in pipe.lines()] == ["first", "last"]
    assert (complaining, dropped) == (["log writer"], [1])


def test_lines_that_the_reader_keeps_waiting_count_against_the_bound(
    pipe: _Pipe, dropped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in the thread's hands are as much memory as the rest."""
    monkeypatch.setattr(logs, "QUEUE_MAX_LINES", 5)
    handler = logs.QueuedLines(pipe, dropped.append)
    log = logging.Logger("gateway.test")
    log.addHandler(handler)
    _hold_up(pipe, log)
    for number in range(20):
        log.info("%d", number)
    assert sum(dropped) == 16
    pipe.reader_is_there.set()
    handler.close()
    assert "".join(pipe.writes).splitlines() == ["first", "0", "1", "2", "3"]


def test_the_end_waits_for_no_reader_and_counts_what_comes_after_it(
    pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines, dropped: list[int]
) -> None:
    """Half a second at most, asked as often as one likes."""
    _hold_up(pipe, log)
    handler.close()
    handler.close()
    assert pipe.writes == []
    log.info("too late")
    assert dropped == [1]


def test_an_idle_handler_ends_its_thread(handler: logs.QueuedLines, dropped: list[int]) -> None:
    """It sleeps while there is nothing to write, and would never know."""
    handler.close()
    assert not handler._thread.is_alive()
    assert dropped == []


def test_an_exiting_process_has_written_all_its_lines() -> None:
    """Without anybody closing anything."""
    code = """
import logging
from gateway.telemetry import logs
logs.set_up("info")
for number in range(3000):
    logging.getLogger("x").info("%d", number)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines()] == [str(n) for n in range(3000)]


def test_to_tell_is_to_log_with_extra(pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines) -> None:
    """The same line; only cheaper."""
    logs.request_id.set("")
    facts = {"stream_id": "s1", "seconds": 1.5, "reported": True, "error": "a\nb\x1b[31m"}
    log.info("stream ended", extra=facts)
    logs.tell(log, logging.INFO, "stream ended", facts)
    handler.close()
    logged, told = (line.split(',"logger"')[1] for line in "".join(pipe.writes).splitlines())
    assert logged == told
    assert list(pipe.lines()[1]) == ["event", "level", "timestamp", "logger", *facts]


def test_nothing_is_made_of_what_is_not_to_be_told(
    pipe: _Pipe, log: logging.Logger, handler: logs.QueuedLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A level that is off costs a look at the level."""
    monkeypatch.setattr(logging, "LogRecord", None)
    logs.tell(log, logging.DEBUG, "not at this level", {})
    handler.close()
    assert pipe.writes == []


@pytest.mark.parametrize("second", [0, 1_700_000_000, 1_700_000_001, 4_102_444_799])
@pytest.mark.parametrize("fraction", [0.0, 0.000001, 0.25, 0.999999])
def test_times_are_utc_with_microseconds(second: int, fraction: float) -> None:
    """The seconds are kept from line to line, and must not be kept too long."""
    formatter = JsonLines()
    for moment in (second, second + fraction, second + 1, second + fraction):
        record = logging.makeLogRecord({"created": moment})
        told = json.loads(formatter.format(record))["timestamp"]
        assert len(told) == len("2026-01-01T00:00:00.000000Z")
        assert abs(datetime.fromisoformat(told).timestamp() - moment) < 0.000_002
