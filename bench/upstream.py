"""A mock language model: OpenAI's chat.completion.chunk events at a steady pace, each token with its time of sending.

One thread, epoll and plain sockets, so that it costs little beside what is measured. A token is `t`, the 16 digits of
CLOCK_MONOTONIC in nanoseconds, and a space. `python -m bench.upstream --help` names its options.
"""

import argparse
import contextlib
import gc
import heapq
import json
import random
import re
import select
import signal
import socket
import time
from bisect import insort
from collections import deque
from functools import partial
from operator import attrgetter
from typing import Any

import orjson

from bench import host
from bench.loop import NEVER, Loop

EVENT = (
    '{"id":"chatcmpl-%s","object":"chat.completion.chunk","created":1750000000,"model":"gpt-4o-mini-2024-07-18",'
    '"service_tier":"default","system_fingerprint":"fp_34a54ae93c",%s}'
)
ROLE = (
    '"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
    '"logprobs":null,"finish_reason":null}]'
)
TOKEN = '"choices":[{"index":0,"delta":{"content":"t%016d "},"logprobs":null,"finish_reason":null}]'
FINISH = '"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]'
USAGE = '"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":%d,"total_tokens":%d}'
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    b"x-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n"
)
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
WHOLE = (
    b'{"id":"chatcmpl-0","object":"chat.completion","created":1750000000,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello","refusal":null},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":20,"completion_tokens":1,"total_tokens":21}}'
)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
BLOCKED_NS = 1_000_000
BY_TIME = attrgetter("due_ns")
TICKS = 16
"""Tokens that are sent in a row before the clients are looked at again."""


def chunk(data: str) -> bytes:
    """One event as one piece of a chunked body."""
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


TEMPLATE = (
    chunk(EVENT % ("0123456789abcdef", TOKEN % 0))
    .replace(b"%016d" % 0, b"%016d")
    .replace(b"0123456789abcdef", b"IDENTITY")
)


class Stream:
    """A connection, and the answer that runs on it, if one does: `left` tokens are still to be sent."""

    __slots__ = (
        *("asked", "begun", "due_ns", "ended", "first", "identity", "left", "rest", "running"),
        *("send", "sent", "sock", "token", "usage"),
    )

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.send = sock, sock.send
        self.asked = self.rest = self.token = b""
        self.identity = ""
        self.running = self.begun = self.ended = self.usage = False
        self.left = self.sent = self.first = self.due_ns = 0

    def begin(self, identity: str, tokens: int, usage: bool) -> None:
        """An answer of so many tokens."""
        self.identity, self.left, self.usage = identity, tokens, usage
        self.running, self.begun, self.ended = True, False, False
        self.sent = self.first = 0
        self.token = TEMPLATE.replace(b"IDENTITY", identity.encode())

    def ending(self) -> bytes:
        """What comes behind the last token."""
        self.ended = True
        parts = [chunk(EVENT % (self.identity, FINISH))]
        if self.usage:
            parts.append(chunk(EVENT % (self.identity, USAGE % (self.sent, self.sent + 20))))
        return b"".join([*parts, chunk("[DONE]"), b"0\r\n\r\n"])


class Upstream:
    """Answers any POST; `rate` tokens a second for each stream, 0 for all at once. Runs in a `Loop`."""

    def __init__(self, loop: Loop, port: int = 0, *, rate: float = 50, tokens: int = 200, ttft_ms: float = 50) -> None:
        self._loop = loop
        self._tokens, self._ttft_ns = tokens, int(ttft_ms * 1e6)
        self._step_ns = int(1e9 / rate) if rate > 0 else 0
        self.started = self.completed = self.hung_up = self.tokens = self.blocked = self.late_ns = 0
        self.hangups: dict[int, int] = {}
        """When a client was seen to have gone, by its first token's stamp."""
        self.due_ns = NEVER
        self._random = random.Random(1)
        self._rare: list[tuple[int, int, Stream]] = []
        self._paced: deque[Stream] = deque()
        """Streams in the order in which their next tokens are due: all have one step, so each goes to the end."""
        self._ticket = 0
        self._streams: dict[int, Stream] = {}
        self._listener = socket.create_server(("127.0.0.1", port), backlog=16384)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        loop.add(self._listener, select.EPOLLIN, self._accept)

    def close(self) -> None:
        """Close everything."""
        for stream in list(self._streams.values()):
            self._loop.remove(stream.sock)
        self._loop.remove(self._listener)

    def tick(self, now: int) -> None:
        """Send the tokens that are due; what is rare in a stream's life is done in between."""
        paced, rare, step, clock = self._paced, self._rare, self._step_ns, time.monotonic_ns
        for _ in range(TICKS):
            if rare and rare[0][0] <= now:
                self._turn(*heapq.heappop(rare), now)
            elif paced and paced[0].due_ns <= now:
                stream = paced.popleft()
                if stream.left > 0 and not stream.rest:
                    stream.due_ns += step
                    paced.append(stream)
                    stream.left -= 1
                    stream.sent += 1
                    self._push(stream, stream.token % now)
                else:
                    self._turn(stream.due_ns, 0, stream, now)
            else:
                break
            now = clock()
        self.due_ns = min(paced[0].due_ns if paced else NEVER, rare[0][0] if rare else NEVER)

    def _turn(self, at: int, _: int, stream: Stream, now: int) -> None:
        """The beginning of an answer, its ending, or the whole of one that is not paced."""
        if not stream.running:
            return
        if stream.rest:
            return self._schedule(stream, now + BLOCKED_NS)
        self.late_ns = max(self.late_ns, now - at)
        if not stream.begun:
            stream.begun = True
            data = HEAD + chunk(EVENT % (stream.identity, ROLE))
            if not self._step_ns:
                data += self._all_tokens(stream, now) + stream.ending()
            else:
                self._schedule(stream, now)
        elif stream.left > 0:
            data = self._first_token(stream, now)
        else:
            data = stream.ending()
        self._push(stream, data)
        return None

    def _first_token(self, stream: Stream, now: int) -> bytes:
        """The next one comes at a random moment of the step, so that streams do not tick together."""
        stream.sent, stream.first = 1, now
        stream.left -= 1
        stream.due_ns = now + 1 + self._random.randrange(self._step_ns)
        insort(self._paced, stream, key=BY_TIME)
        return stream.token % now

    def _all_tokens(self, stream: Stream, now: int) -> bytes:
        stream.sent, stream.first, stream.left = stream.left, now, 0
        return (stream.token % now) * stream.sent

    def _schedule(self, stream: Stream, at: int) -> None:
        self._ticket += 1
        heapq.heappush(self._rare, (at, self._ticket, stream))
        self.due_ns = min(self.due_ns, at)

    def _push(self, stream: Stream, data: bytes) -> None:
        """Send, and keep what the socket does not take."""
        try:
            taken = stream.send(data)
        except BlockingIOError:
            taken = 0
        except OSError:
            return self._drop(stream)
        if taken < len(data):
            self.blocked += 1
            stream.rest = data[taken:]
            self._loop.change(stream.sock, select.EPOLLIN | select.EPOLLOUT)
        elif stream.ended:
            self._finish(stream)
        return None

    def _finish(self, stream: Stream) -> None:
        self.completed += stream.running
        self.tokens += stream.sent
        stream.running = stream.ended = False
        self._requests(stream)

    def _drop(self, stream: Stream) -> None:
        """The peer has gone."""
        if stream.running:
            self.hung_up += 1
            self.tokens += stream.sent
            if stream.first:
                self.hangups[stream.first] = time.monotonic_ns()
        stream.running, stream.left = False, 0
        del self._streams[stream.sock.fileno()]
        self._loop.remove(stream.sock)

    def _accept(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream = self._streams[sock.fileno()] = Stream(sock)
                self._loop.add(sock, select.EPOLLIN, partial(self._ready, stream))

    def _ready(self, stream: Stream, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._loop.change(stream.sock, select.EPOLLIN)
            data, stream.rest = stream.rest, b""
            return self._push(stream, data)
        try:
            data = stream.sock.recv(65536)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self._drop(stream)
        stream.asked += data
        if not stream.running:
            self._requests(stream)
        return None

    def _requests(self, stream: Stream) -> None:
        """Take a whole request out of what was received, if there is one."""
        end = stream.asked.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = LENGTH.search(stream.asked, 0, end)
        size = int(length[1]) if length else 0
        if len(stream.asked) < end + size:
            return
        body, stream.asked = stream.asked[end : end + size], stream.asked[end + size :]
        self._answer(stream, orjson.loads(body) if body else {})

    def _answer(self, stream: Stream, asked: dict[str, Any]) -> None:
        self.started += 1
        tokens = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or self._tokens)
        if asked.get("stream"):
            usage = bool((asked.get("stream_options") or {}).get("include_usage"))
            stream.begin(f"{self.started:016x}", tokens, usage)
            self._schedule(stream, time.monotonic_ns() + self._ttft_ns)
            return
        stream.sent, stream.ended = 0, True
        self._push(stream, PLAIN % (len(WHOLE), WHOLE))

    def told(self) -> dict[str, float]:
        """What happened so far."""
        names = ("started", "completed", "hung_up", "tokens", "blocked")
        return {**{name: getattr(self, name) for name in names}, "late_max_ms": round(self.late_ns / 1e6, 3)}


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, then say what happened."""
    parser = argparse.ArgumentParser(prog="python -m bench.upstream", description="A mock language model.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, which is printed")
    parser.add_argument("--rate", type=float, default=50, help="tokens a second for each stream; 0: all at once")
    parser.add_argument("--tokens", type=int, default=200, help="of an answer whose request does not say max_tokens")
    parser.add_argument("--ttft-ms", type=float, default=50, help="from the request to the first token")
    options = parser.parse_args()
    host.raise_descriptors()
    loop = Loop()
    upstream = Upstream(loop, options.port, rate=options.rate, tokens=options.tokens, ttft_ms=options.ttft_ms)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, loop.stop)
    print(upstream.port, flush=True)
    gc.disable()
    loop.run(upstream)
    print(json.dumps(upstream.told()), flush=True)


if __name__ == "__main__":
    main()
