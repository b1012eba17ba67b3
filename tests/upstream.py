"""Upstream: a scripted service on a real socket that speaks Chat Completions, byte by byte as it is told."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Step = bytes | float | str
"""Bytes to send, seconds to wait, or one of: "rst", "fin", "hang", "headers" (the usual head of a stream)."""

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"
)
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def chunked(data: bytes) -> bytes:
    """`data` as one chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk(delta: dict[str, Any] | None, finish_reason: str | None = None, **top: Any) -> bytes:
    """One `chat.completion.chunk` as an SSE event."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    body = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "up-1", "choices": choices}
    return b"data: " + json.dumps({**body, **top}, ensure_ascii=False).encode() + b"\n\n"


def answer(tokens: Iterable[str], usage: tuple[int, int] | None = (5, 7), finish_reason: str = "stop") -> list[bytes]:
    """The events of a whole, good answer: role, tokens, finish reason, usage, [DONE]."""
    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": token}) for token in tokens]
    events.append(chunk({}, finish_reason))
    if usage is not None:
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        events.append(chunk(None, usage=counts))
    events.append(DONE)
    return events


def streamed(events: Iterable[bytes], gap_s: float = 0.0) -> list[Step]:
    """The steps that send these events, each as one chunk, properly ended."""
    steps: list[Step] = ["headers"]
    for event in events:
        steps.append(chunked(event))
        if gap_s:
            steps.append(gap_s)
    return [*steps, END]


@dataclass
class Call:
    """One request that reached the upstream, and when its connection was found closed."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    arrived: float = field(default_factory=time.monotonic)
    closed: float | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def found_closed(self) -> None:
        """The connection is over; the first time that this is noticed counts."""
        if self.closed is None:
            self.closed = time.monotonic()
            self.gone.set()

    async def wait_closed(self, limit_s: float = 5.0) -> float:
        """The time (monotonic) at which the gateway closed the connection."""
        async with asyncio.timeout(limit_s):
            await self.gone.wait()
        assert self.closed is not None
        return self.closed


Script = Callable[[Call], Iterable[Step] | Awaitable[Iterable[Step]]]


class Upstream:
    """Answers each POST with `script(call)`; `calls` are in order of arrival."""

    def __init__(self, script: Script | Iterable[Step] | None = None) -> None:
        steps = list(script) if script is not None and not callable(script) else None
        if steps is not None:
            self.script: Script = lambda _call: steps
        else:
            self.script = script if callable(script) else (lambda _call: streamed(answer(["Hello", " world"])))
        self.models = b'{"object":"list","data":[{"id":"up-1","object":"model","created":1,"owned_by":"us"}]}'
        self.calls: list[Call] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """What OPENAI_BASE_URL is to be."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def __aenter__(self) -> "Upstream":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while (call := await _read_request(reader)) is not None:
                if call.path.endswith("/models"):
                    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    writer.write(head % len(self.models) + self.models)
                    continue
                self.calls.append(call)
                if not await self._answer(call, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Play the script; false when the connection is over. What the peer does meanwhile is noted at once."""
        watch = asyncio.create_task(_watch(call, reader))
        try:
            steps = self.script(call)
            for step in await steps if isinstance(steps, Awaitable) else steps:
                if call.gone.is_set():
                    return False
                if not await self._play(step, call, writer):
                    return False
            return not call.gone.is_set()
        except ConnectionError:
            call.found_closed()
            raise
        finally:
            watch.cancel()

    async def _play(self, step: Step, call: Call, writer: asyncio.StreamWriter) -> bool:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, (int, float)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step):
                    await call.gone.wait()
        elif step == "headers":
            writer.write(HEAD)
        elif step == "fin":
            writer.close()
            return False
        elif step == "rst":
            await asyncio.sleep(0.02)  # what was written is on its way before the reset overtakes it
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        elif step == "hang":
            await call.gone.wait()
            return False
        return True


async def _watch(call: Call, reader: asyncio.StreamReader) -> None:
    """Nothing is pipelined: the next bytes are a new request, the end is the end. Only the latter is of interest."""
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof():
            await asyncio.sleep(0.002)
            if reader._buffer:  # type: ignore[attr-defined]  # peeking: StreamReader has no public way to
                return
    call.found_closed()


async def _read_request(reader: asyncio.StreamReader) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Call(first.split(" ")[1], headers, json.loads(body or b"{}"))


@contextlib.asynccontextmanager
async def upstream(script: Script | Iterable[Step] | None = None) -> AsyncIterator[Upstream]:
    """A running upstream."""
    async with Upstream(script) as service:
        yield service
