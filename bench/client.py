"""The load client: opens streams, reads them as cheaply as Python can, and counts what it gets."""

import errno
import random
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable

from bench.answer import STAMP, Answer, BadAnswerError
from bench.load import Load, Request
from bench.loop import NEVER, Loop
from bench.samples import Samples

PIECE = 16384
RETRY_NS = 100_000_000


class Tally:
    """What all connections of a run got. Times are taken only while `counting`."""

    def __init__(self) -> None:
        self.counting = False
        self.latency, self.ttft, self.connected = Samples(), Samples(), Samples()
        self.add: Callable[[int], object] = lambda _: None
        self.done = 0
        """Streams that ended well while counting."""
        self.ends: Counter[str] = Counter()
        """All streams of the run, by how they ended."""
        self.aborts: dict[int, int] = {}
        """When a client hung up, by its first token's stamp."""
        self.trouble = ""
        """What the first bad answer was."""

    def count(self) -> None:
        """From now on times are taken."""
        self.counting, self.add = True, self.latency.add

    def stop(self) -> None:
        """From now on none are taken."""
        self.counting, self.add = False, lambda _: None


class Connection:
    """One connection and the answer that it reads. `size`, `opening` and `place` tell a piece of just one token."""

    __slots__ = (
        *("aborts", "answer", "asked_ns", "client", "greeted", "opening", "place", "port", "recv", "request"),
        *("reused", "second", "size", "sock", "tally", "tokens"),
    )

    def __init__(
        self, client: "Client", port: int, request: bytes, *, aborts: bool = False, second: bool = False
    ) -> None:
        self.client, self.tally = client, client.tally
        self.port, self.request = port, request
        self.aborts = aborts
        """It hangs up after the first token."""
        self.second = second
        """It reads a stream that another one has opened, and is not replaced."""
        self.connect()

    def connect(self) -> None:
        """Open a connection; the request goes out when it is there."""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.recv, self.reused = self.sock.recv, False
        self.client.open.add(self)
        code = self.sock.connect_ex(("127.0.0.1", self.port))
        self.client.loop.add(self.sock, select.EPOLLOUT, self._connected)
        if code not in (0, errno.EINPROGRESS):
            self.client.over(self, "failed_connect")

    def _connected(self, _: int) -> None:
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return self.client.over(self, "failed_connect")
        self.client.loop.change(self.sock, select.EPOLLIN, self.read)
        return self.ask()

    def ask(self) -> None:
        """Send the request."""
        self.answer, self.tokens, self.greeted = Answer(), 0, False
        self.size, self.opening, self.place = -1, b"", 0
        self.asked_ns = time.monotonic_ns()
        try:
            self.sock.send(self.request)
        except OSError:
            self.client.over(self, "failed_broken")

    def read(self, _: int) -> None:
        """Take what has arrived: mostly a piece like the one before, and so one token."""
        try:
            data = self.recv(PIECE)
        except OSError:
            data = b""
        now = time.monotonic_ns()
        if len(data) == self.size and data.startswith(self.opening) and (found := STAMP.match(data, self.place)):
            self.tally.add(now - int(found[1]))
            self.tokens += 1
        else:
            self._piece(data, now)

    def _piece(self, data: bytes, now: int) -> None:
        """Take anything else: a head, several tokens or a part of one, an end."""
        answer, fresh = self.answer, not self.answer.head
        if not data:
            return self._closed()
        try:
            stamps = answer.feed(data)
        except BadAnswerError as error:
            self.tally.trouble = self.tally.trouble or str(error)
            return self.client.over(self, "failed_http")
        self.size, self.opening, self.place = len(data) if answer.place else -1, answer.opening, answer.place
        if fresh and answer.head:
            self.client.opened(self)
        if answer.greeted and not self.greeted:
            self.greeted = True
            if self.tally.counting:
                self.tally.connected.add(now - self.asked_ns)
        if stamps and self._tokens(stamps, now):
            return None
        return self._ended() if answer.done else None

    def _closed(self) -> None:
        """The other side hung up. It may do so on a connection that is kept, before it sees the next request."""
        if self.answer.closed():
            return self._ended()
        if self.reused and not self.answer.begun:
            self.client.loop.remove(self.sock)
            return self.connect()
        return self.client.over(self, "failed_broken")

    def _tokens(self, stamps: list[bytes], now: int) -> bool:
        """Count them; whether that was enough for one who hangs up."""
        if not self.tokens and self.tally.counting:
            self.tally.ttft.add(now - self.asked_ns)
        for stamp in stamps:
            self.tally.add(now - int(stamp))
        self.tokens += len(stamps)
        if self.aborts:
            self.client.over(self, "aborted")
            self.tally.aborts[int(stamps[0])] = time.monotonic_ns()
        return self.aborts

    def _ended(self) -> None:
        self.client.over(self, "completed" if self.tokens >= self.client.load.tokens else "short")


class Client:
    """Keeps `load.streams` streams open; one that ends is replaced, unless each is to run once."""

    def __init__(self, loop: Loop, load: Load, request: Request, ports: list[int]) -> None:
        self.loop, self.load, self.tally = loop, load, Tally()
        self.open: set[Connection] = set()
        self.due_ns = 0
        self.most_open = 0
        self._requests = [(port, request.encoded(port)) for port in ports]
        self._opened = 0
        self._random = random.Random(2)
        self._again: deque[tuple[int, Connection]] = deque()
        self._began_ns = time.monotonic_ns()

    @property
    def finished(self) -> bool:
        """Every stream has ended, and none is to follow."""
        return self.load.once and self._opened == self.load.streams and not self.open and not self._again

    def tick(self, now: int) -> None:
        """Open what the ramp wants by now, and again what has ended or failed."""
        load, wanted = self.load, self.load.streams
        if load.ramp_per_s:
            wanted = min(wanted, int((now - self._began_ns) / 1e9 * load.ramp_per_s) + 1)
        while self._opened < wanted:
            port, request = self._requests[self._opened % len(self._requests)]
            self._opened += 1
            Connection(self, port, request, aborts=self._random.random() < load.abort_share)
        while self._again and self._again[0][0] <= now:
            self._again.popleft()[1].connect()
        self.most_open = max(self.most_open, len(self.open))
        self.due_ns = self._again[0][0] if self._again else NEVER
        if self._opened < load.streams:
            self.due_ns = min(self.due_ns, self._began_ns + int(self._opened / load.ramp_per_s * 1e9))

    def opened(self, first: Connection) -> None:
        """A stream's head has arrived: let its other readers attach."""
        if self.load.readers > 1 and not first.second:
            name = first.answer.field(b"x-stream-id").decode()
            attach = f"GET /stream/{name} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode()
            for _ in range(self.load.readers - 1):
                Connection(self, first.port, attach, second=True)

    def over(self, conn: Connection, how: str) -> None:
        """An answer has ended; ask again, on the same connection where it may be kept."""
        answer = conn.answer if how in ("completed", "short") else None
        self.tally.ends[how] += 1
        self.tally.done += self.tally.counting and how == "completed"
        again = not (self.load.once or conn.second)
        if again and self.load.reuse and answer and answer.keep:
            conn.reused = True
            return conn.ask()
        self.open.discard(conn)
        self.loop.remove(conn.sock)
        if again:
            delay = RETRY_NS if how.startswith("failed") else 0
            self._again.append((time.monotonic_ns() + delay, conn))
            self.due_ns = 0
        return None

    def close(self) -> None:
        """Hang up everywhere."""
        for conn in self.open:
            self.loop.remove(conn.sock)
        self.open.clear()
