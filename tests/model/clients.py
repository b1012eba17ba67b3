"""Clients: what a browser, or a program without a way to take text back, makes of what arrives."""

import asyncio
from typing import Any

import orjson

from gateway.sse import Parser, ServerEvent
from gateway.streams.ids import Place, parse_place
from tests.model.oracle import Oracle, Violation


class Line:
    """One connection: stands where aiohttp's protocol and its transport would. `mute`: nothing may arrive."""

    def __init__(self, client: "Client") -> None:
        self.client = client
        self._parser = Parser(1 << 20)
        self._writable: asyncio.Future[None] | None = None
        self.transport: Line | None = self
        self.writing_paused = False
        self.on_pause: Any = None
        self.mute = ""

    def write(self, data: bytes) -> None:
        """Arrives at once."""
        if self.client.line is not self:
            return
        if self.mute:
            self.client.oracle.found.append(f"{self.client.name} heard {data!r} {self.mute}")
        for event in self._parser.feed(data):
            self.client.hear(event)

    def is_closing(self) -> bool:
        """Whether either side is gone."""
        return self.transport is None

    def stall(self) -> None:
        """The client takes nothing more."""
        self.writing_paused = True
        if self.on_pause is not None:
            self.on_pause()

    def take(self) -> None:
        """The client takes everything again."""
        self.writing_paused = False
        self.release()

    async def writable(self, limit_s: float) -> None:
        """No client here is patient for so long that the limit counts."""
        if self.writing_paused:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable

    def release(self) -> None:
        """Wake whoever waits."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def abort(self) -> None:
        """Cut."""
        self.transport = None
        if self.client.line is self:
            self.client.line = None


class Client:
    """What a client keeps over all its connections."""

    native: bool

    def __init__(self, name: str, oracle: Oracle, whole: str | None, *, forgets: bool) -> None:
        self.name = name
        self.oracle = oracle
        self.whole = whole
        """What an exact source says in all."""
        self.partial = False
        """Whether it was told that the beginning may be gone, where logs are bounded so tightly that it may be."""
        self._forgets = forgets
        self.text = ""
        self.line: Line | None = None
        self.terminals: list[str] = []
        self.refused = ""
        """The last word of a server that knows no such stream."""

    def connects(self) -> None:
        """A new connection begins."""

    @property
    def over(self) -> bool:
        """Whether there is nothing more to come back for."""
        return bool(self.terminals or self.refused)

    @property
    def place(self) -> Place | None:
        """Where to go on."""
        return None

    def hear(self, event: ServerEvent) -> None:
        """One event; what is wrong with it is noted."""
        try:
            self._hear(event)
            if self.whole is not None and not (
                self.text in self.whole if self.partial else self.whole.startswith(self.text)
            ):
                raise Violation(f"no beginning of the answer: {self.text!r}")
            if len(self.terminals) > 1:
                raise Violation(f"more than one end: {self.terminals}")
        except Violation as violation:
            self.oracle.found.append(f"{self.name}, hearing {event}: {violation}")

    def _hear(self, event: ServerEvent) -> None:
        raise NotImplementedError


class Browser(Client):
    """Keeps the text, sets it where it is replaced, and remembers the last id."""

    native = True
    _last: Place | None = None
    _fresh = True

    @property
    def place(self) -> Place | None:
        return self._last

    def connects(self) -> None:
        """A new connection: without a place everything may come again."""
        self._fresh = self._last is None

    def _hear(self, event: ServerEvent) -> None:
        data = orjson.loads(event.data)
        if event.event == "warning" and data["code"] in ("GAP", "RESET", "REWIND"):
            self._fresh, self.partial = True, self._forgets
            if data["code"] == "REWIND" and self._last is not None:
                self.oracle.check_rewind(self._last, data["to"], data["dropped"])
        if event.event == "text":
            self.text = data["token"] if data.get("replace") else self.text + data["token"]
        if event.event in ("complete", "error"):
            why = "" if data.get("status") == "completed" else f" {data.get('finish_reason', '')}"
            self.terminals.append(f"{event.event} {data.get('code', data.get('status'))}{why}".strip())
        if not event.id:
            return
        place = parse_place(event.id)
        if place != self._last:
            self._moves_to(place)
        if not self._fresh:
            self.oracle.check_place(place, self.text, partial=self.partial)

    def _moves_to(self, place: Place) -> None:
        last, self._last = self._last, place
        if last is not None and not self._fresh and place[1:] <= last[1:]:
            raise Violation(f"{last.epoch}-{last.seq} came before it")
        self._fresh = False


class Program(Client):
    """Speaks OpenAI's dialect: can neither come back nor take back."""

    native = False

    def _hear(self, event: ServerEvent) -> None:
        if event.data == "[DONE]":
            self.terminals.append("complete completed")
            return
        chunk = orjson.loads(event.data)
        if "error" in chunk:
            self.terminals.append(f"error {chunk['error'].get('code')}")
        else:
            self.text += chunk["choices"][0]["delta"].get("content") or ""
            if not self.oracle.says(self.text):
                raise Violation(f"a mixture: {self.text!r}")
