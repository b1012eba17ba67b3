"""Feed: an upstream that says how it is to answer in the question, for hundreds of streams at little cost.

question(tokens=200, rate=50, size=6)  →  200 tokens of 6 characters, 50 a second, then the end
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.upstream import DONE, END, HEAD, chunk, chunked

TICK_S = 0.01
MODELS = b'{"object":"list","data":[{"id":"feed","object":"model","created":1,"owned_by":"us"}]}'


def question(tokens: int, rate: float = 0, size: int = 6, mark: str = "", hang: bool = False) -> str:
    """A question for a feed. `rate` 0 is all at once; `mark` makes texts differ; `hang` goes on for ever in silence."""
    return json.dumps({"tokens": tokens, "rate": rate, "size": size, "mark": mark, "hang": hang})


def token(index: int, size: int, mark: str) -> str:
    """A token that tells its place and whose it is."""
    return f"{mark}{index} ".ljust(size, "x")


def text(tokens: int, size: int = 6, mark: str = "") -> str:
    """The whole answer to that question."""
    return "".join(token(index, size, mark) for index in range(tokens))


@dataclass
class Answer:
    """One answer under way."""

    transport: asyncio.Transport
    tokens: int
    rate: float
    size: int
    mark: str
    hang: bool
    begun: float
    said: int = 0


class Feed:
    """Listens on loopback; `url` is what OPENAI_BASE_URL is to be."""

    def __init__(self) -> None:
        self.port = 0
        self.asked = 0
        self._connections: set[asyncio.Transport] = set()
        self._answers: dict[asyncio.Transport, Answer] = {}
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """What OPENAI_BASE_URL is to be."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open(self) -> int:
        """Connections of the gateway."""
        return len(self._connections)

    @property
    def answering(self) -> int:
        """Answers under way."""
        return len(self._answers)

    async def start(self) -> None:
        """Listen and tick."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Protocol(self), "127.0.0.1", self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        assert self._ticker is not None
        self._ticker.cancel()
        self._server.close()
        for transport in list(self._connections):
            transport.abort()
        await asyncio.sleep(0)  # abort tells in the next turn of the loop

    def asks(self, transport: asyncio.Transport, body: bytes) -> None:
        """A request has arrived whole."""
        self.asked += 1
        wanted = json.loads(json.loads(body)["messages"][-1]["content"])
        answer = Answer(transport, begun=asyncio.get_running_loop().time(), **wanted)
        self._answers[transport] = answer
        transport.write(HEAD)
        self._say(answer, answer.begun)

    def came(self, transport: asyncio.Transport) -> None:
        """The gateway has opened a connection."""
        self._connections.add(transport)

    def gone(self, transport: asyncio.Transport) -> None:
        """It is closed."""
        self._connections.discard(transport)
        self._answers.pop(transport, None)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            for answer in list(self._answers.values()):
                self._say(answer, now)

    def _say(self, answer: Answer, now: float) -> None:
        """What is due by now."""
        due = answer.tokens
        if answer.rate:
            due = min(due, int((now - answer.begun) * answer.rate) + 1)
        if due > answer.said:
            said = range(answer.said, due)
            answer.said = due
            pieces = [chunk({"content": token(index, answer.size, answer.mark)}) for index in said]
            answer.transport.write(b"".join(map(chunked, pieces)))
        if answer.said == answer.tokens and not answer.hang:
            self._answers.pop(answer.transport, None)
            answer.transport.write(chunked(chunk({}, "stop")) + chunked(DONE) + END)


class _Protocol(asyncio.Protocol):
    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._feed.came(transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end or self._transport is None:
            return
        if head.startswith(b"GET "):
            self._data = rest
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(MODELS)
            self._transport.write(head + MODELS)
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) >= length:
            self._data = rest[length:]
            self._feed.asks(self._transport, rest[:length])

    def connection_lost(self, exc: BaseException | None) -> None:
        assert self._transport is not None
        self._feed.gone(self._transport)


@contextlib.asynccontextmanager
async def feed(port: int = 0) -> AsyncIterator[Feed]:
    """A running feed, on any free port if it does not matter."""
    service = Feed()
    service.port = port
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
