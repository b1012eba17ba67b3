"""Logs: one JSON object a line on standard error, written by a thread so that a stuck reader never stops the loop."""

import contextlib
import json
import logging
import queue
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO

import orjson
import structlog

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request being served, in every line logged meanwhile."""

QUEUE_MAX_LINES = 10_000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class QueuedLines(logging.Handler):
    """Puts lines into a bounded queue; what does not fit is dropped and counted."""

    def __init__(self, stream: TextIO, on_drop: Callable[[int], None] = lambda _: None) -> None:
        super().__init__()
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_MAX_LINES)
        self._stream = stream
        self.on_drop = on_drop
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="log writer", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.on_drop(1)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what is waiting, for half a second at most; Python asks once more at its exit."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=0.1)
            self._thread.join(timeout=0.5)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self.on_drop(1)


def set_up(level: str, stream: TextIO | None = None) -> QueuedLines:
    """Route all logging of the process, ours and libraries', through one chain to one handler."""
    handler = QueuedLines(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _as_json],
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _add_context,
                structlog.processors.format_exc_info,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The libraries' own news is not ours: they log whole requests at INFO.
    for name in ("aiohttp", "openai", "httpx2", "httpcore2", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    return handler


def _add_context(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What was given as `extra`, the logger's name and the request's id."""
    record: logging.LogRecord = event["_record"]
    event["logger"] = record.name
    if request_id.get():
        event["request_id"] = request_id.get()
    event.update({name: value for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"})
    return event


def _as_json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """One line; control characters inside values are escaped by JSON itself."""
    try:
        return orjson.dumps(dict(event), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Half a surrogate pair, or a number beyond 64 bits: slower, but no line is lost.
        return json.dumps(event, default=str)
