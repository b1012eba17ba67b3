"""Readers: clients that open streams and come back until each has its end, and remember all that they saw."""

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from fleet.visit import Seen, Visit

TERMINAL = ("complete", "error")
BROWSERS_RETRY_S = 2.0
"""What a client waits before it comes back, until it is told otherwise."""

HEAD = "Host: localhost\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n"


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks. `method` GET is a browser's EventSource: it comes back with the same URL, and any status but
    200 ends it for ever. POST is a client that comes back by `GET /stream/{sid}`, and after a 503 too.
    """

    text: str
    method: str = "GET"


@dataclass(slots=True)
class Call:
    """One connection: when it was begun and ended (loop time), its status (0: none came), how it ended."""

    began: float
    ended: float = 0.0
    status: int = 0
    whole: bool = False


@dataclass(slots=True)
class History:
    """All that one client saw, in order, over all its connections."""

    number: int
    question: Question
    events: list[Seen] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    sid: str = ""
    last_id: str = ""
    finished: bool = False
    """It has seen a terminal event."""
    gave_up: str = ""
    """Why it stopped without one."""


class Reader:
    """One client. `history` grows as it reads; `sid` names a stream that exists, to be read instead of asking."""

    def __init__(self, url: str, number: int, question: Question, *, sid: str = "") -> None:
        parts = urlsplit(url)
        self._where = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._attached = bool(sid)
        self._key = secrets.token_hex(8)
        self._retry_s = BROWSERS_RETRY_S
        self.history = History(number, question, sid=sid)

    async def run(self, limit_s: float) -> History:
        """Read to the stream's end, coming back as often as it takes, for at most so long."""
        try:
            async with asyncio.timeout(limit_s):
                while not (self.history.finished or self.history.gave_up):
                    pause_s = await self._call()
                    if not (self.history.finished or self.history.gave_up):
                        await asyncio.sleep(pause_s)
        except TimeoutError:
            self.history.gave_up = f"not ended after {limit_s:g} s"
        return self.history

    async def _call(self) -> float:
        """One connection; the seconds until the next."""
        loop = asyncio.get_running_loop()
        call = Call(loop.time())
        self.history.calls.append(call)
        visit = Visit(self._request(), self._heard, self._told_retry)
        try:
            await loop.create_connection(lambda: visit, *self._where)
            await visit.over
        except OSError:
            return self._retry_s
        finally:
            visit.hang_up()
            call.ended, call.status, call.whole = loop.time(), visit.status, visit.whole
        return self._judged(visit)

    def _judged(self, visit: Visit) -> float:
        """What a status means for this kind of client."""
        if visit.status in (0, 200):
            return self._retry_s
        if visit.status == 503 and self.history.question.method == "POST":
            return visit.retry_after_s or self._retry_s
        self.history.gave_up = f"status {visit.status}"
        return 0.0

    def _request(self) -> bytes:
        """The bytes of the next request: the question, or where to go on."""
        history, question = self.history, self.history.question
        back = f"Last-Event-ID: {history.last_id}\r\n" if history.last_id else ""
        # Who has lost a connection before the first id asks again, with the key that makes it the same stream.
        if self._attached or (question.method == "POST" and history.last_id):
            return f"GET /stream/{history.sid} HTTP/1.1\r\n{HEAD}{back}\r\n".encode()
        if question.method == "GET":
            query = urlencode({"query": question.text, "idempotency_key": self._key})
            return f"GET /stream?{query} HTTP/1.1\r\n{HEAD}{back}\r\n".encode()
        body = json.dumps({"query": question.text})
        more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nIdempotency-Key: {self._key}\r\n"
        return f"POST /stream HTTP/1.1\r\n{HEAD}{more}\r\n{body}".encode()

    def _heard(self, seen: Seen) -> None:
        history = self.history
        history.events.append(seen)
        if seen.name == "connected" and not history.sid:
            history.sid = str(seen.data["stream_id"])
        if seen.id:
            history.last_id = seen.id
            history.finished = history.finished or seen.name in TERMINAL

    def _told_retry(self, seconds: float) -> None:
        self._retry_s = seconds


class Readers:
    """Many of them at once, begun at so many a second (0: all at once)."""

    def __init__(self, url: str, questions: Sequence[Question], *, ramp_per_s: float = 0.0) -> None:
        self._ramp_per_s = ramp_per_s
        self.readers = [Reader(url, number, question) for number, question in enumerate(questions)]

    @property
    def histories(self) -> list[History]:
        """What they have seen so far."""
        return [reader.history for reader in self.readers]

    @property
    def reading(self) -> int:
        """How many have content and not yet their end."""
        return sum(history.last_id != "" and not (history.finished or history.gave_up) for history in self.histories)

    async def run(self, limit_s: float) -> list[History]:
        """All of them, to their ends; each for at most so long."""
        tasks = []
        async with asyncio.TaskGroup() as group:
            for reader in self.readers:
                tasks.append(group.create_task(reader.run(limit_s)))
                if self._ramp_per_s:
                    await asyncio.sleep(1 / self._ramp_per_s)
        return [task.result() for task in tasks]


async def read_again(
    url: str, histories: Sequence[History], *, at_once: int = 50, limit_s: float = 30.0
) -> list[History]:
    """What the log holds of each of these streams: read without a place, from its beginning."""
    turns = asyncio.Semaphore(at_once)

    async def one(history: History) -> History:
        async with turns:
            return await Reader(url, history.number, history.question, sid=history.sid).run(limit_s)

    return list(await asyncio.gather(*(one(history) for history in histories)))
