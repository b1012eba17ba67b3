"""Logs: one JSON object a line on standard error, written by a thread so that a stuck reader never stops the loop."""

import contextlib
import copy
import logging
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO

from gateway.telemetry.jsonlines import JsonLines

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request being served, in every line logged meanwhile."""

QUEUE_MAX_LINES = 10_000
PAUSE_S = 0.01
"""Between two rounds of writing: lines that come meanwhile go out together.

Longer, and at thousands of lines a second the loop would wait a millisecond for the interpreter, held to make them all;
shorter, and the thread would wake for each line or two.
"""

CLOSE_S = 0.5


class QueuedLines(logging.Handler):
    """Keeps records in a bounded queue, from which a thread writes lines; what does not fit is dropped and counted.

    What a record was given as `extra` is told a moment later, so nobody may change it after it was logged.
    """

    def __init__(self, stream: TextIO, on_drop: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self._records: deque[logging.LogRecord] = deque()
        self._room = QUEUE_MAX_LINES
        self._stream = stream
        self.on_drop = on_drop
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """As the base class does, but without its lock, which the queue does not need."""
        if self.filters and not self.filter(record):
            return False
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        if len(self._records) >= self._room:
            self.on_drop(1)
            return
        if record.args or record.exc_info or type(record.msg) is not str:
            # What cannot be put together is complained of by the thread, which may wait.
            with contextlib.suppress(Exception):
                record = _settled(record)
        vars(record)["_request_id"] = request_id.get()
        self._records.append(record)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what is waiting, for half a second at most; Python asks once more at its exit."""
        if self._closing.is_set():
            return
        self._room = 0
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout=CLOSE_S)
        super().close()

    def _write(self) -> None:
        while self._room or self._records:
            self._wake.wait()
            self._wake.clear()
            self._write_waiting()
            self._closing.wait(PAUSE_S)

    def _write_waiting(self) -> None:
        """Write until nothing waits, as many lines at once as the kernel takes into a pipe without tearing them."""
        lines: list[str] = []
        size, taken = 0, 0
        while taken < len(self._records):
            line = self._line_of(self._records[taken])
            bytes_more = len(line.encode(errors="replace"))
            if lines and size + bytes_more > select.PIPE_BUF:
                self._put(lines, taken)
                lines, size, taken = [], 0, 0
            if line:
                lines.append(line)
            size, taken = size + bytes_more, taken + 1
        if taken:
            self._put(lines, taken)

    def _line_of(self, record: logging.LogRecord) -> str:
        """Empty if nothing can be made of the record."""
        try:
            return self.format(record) + "\n"
        except Exception:
            self.on_drop(1)
            self.handleError(record)
            return ""

    def _put(self, lines: list[str], records: int) -> None:
        """Write lines, and only then forget their records: what a stuck reader leaves must count as waiting."""
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except (OSError, ValueError):
            self.on_drop(len(lines))
        for _ in range(records):
            self._records.popleft()


def _settled(record: logging.LogRecord) -> logging.LogRecord:
    """A copy that no change of its arguments reaches, and that keeps no frames alive."""
    settled = copy.copy(record)
    settled.msg, settled.args = record.getMessage(), None
    if record.exc_info and record.exc_info[0]:
        settled.exc_text = logging.Formatter().formatException(record.exc_info)
    settled.exc_info = None
    return settled


def tell(log: logging.Logger, level: int, event: str, facts: dict[str, Any]) -> None:
    """Log what `log.log(level, event, extra=facts)` does, at half its price: for lines that each stream writes.

    Where in the code it was called is not looked up, for no line shows that; nor is each fact looked at.
    """
    if log.isEnabledFor(level):
        record = logging.LogRecord(log.name, level, "", 0, event, None, None)
        vars(record)["_facts"] = facts.copy()
        log.handle(record)


def set_up(level: str, stream: TextIO | None = None) -> QueuedLines:
    """Route all logging of the process, ours and libraries', through one handler."""
    handler = QueuedLines(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # No line shows thread, process or task, and to look them up is a tenth of a record's price.
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, name, False)
    # The libraries' own news is not ours: they log whole requests at INFO.
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    return handler
