"""The load's own event loop: one epoll for both its sides, and timers to the microsecond."""

import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

IDLE_NS = 50_000_000
LEAST_NS = 50_000
"""Waiting shorter than that is not worth its system calls; network cards hold interrupts back for about as long."""
NEVER = 1 << 62


class Part(Protocol):
    """What does something at times, and not only when its sockets are ready."""

    due_ns: int
    """When it next has something to do."""

    def tick(self, now: int) -> None:
        """Do what is due, and say in `due_ns` when there is more."""


class Loop:
    """Calls back for sockets, and lets its parts tick in time."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._calls: dict[int, Callable[[int], None]] = {}
        self._stopping = False

    def add(self, sock: socket.socket, mask: int, call: Callable[[int], None]) -> None:
        """Call with what the socket is ready for."""
        self._calls[sock.fileno()] = call
        self._poll.register(sock, mask)

    def change(self, sock: socket.socket, mask: int, call: Callable[[int], None] | None = None) -> None:
        """Wait for something else, and call another if one is given."""
        self._poll.modify(sock, mask)
        if call is not None:
            self._calls[sock.fileno()] = call

    def remove(self, sock: socket.socket) -> None:
        """Forget the socket and close it."""
        self._calls.pop(sock.fileno(), None)
        sock.close()

    def stop(self, *_: object) -> None:
        """Let `run` return; also what a signal calls."""
        self._stopping = True

    def close(self) -> None:
        """Close the epoll itself."""
        self._poll.close()

    def run(self, *parts: Part) -> None:
        """Until `stop`. epoll counts in milliseconds, so the waiting is left to select, which counts finer."""
        polls, ready, calls = (self._poll.fileno(),), self._poll.poll, self._calls
        wait, clock = select.select, time.monotonic_ns
        due = 0
        while not self._stopping:
            pause = due - clock()
            if pause <= 0 or wait(polls, (), (), (pause if pause > LEAST_NS else LEAST_NS) / 1e9)[0]:
                for fd, mask in ready(0):
                    if fd in calls:
                        calls[fd](mask)
            now = clock()
            due = now + IDLE_NS
            for part in parts:
                if part.due_ns <= now:
                    part.tick(now)
                if part.due_ns < due:
                    due = part.due_ns
