"""Listeners: the sockets that clients come to, bounded before the first of them is accepted."""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What accepted sockets inherit. `send_buffer_bytes` is doubled by Linux for its own book-keeping.

    TCP_NODELAY, without which a token would wait for the acknowledgement of the one before, is set by aiohttp.
    """

    send_buffer_bytes: int
    user_timeout_s: float
    backlog: int


def listen_tcp(host: str, port: int, options: SocketOptions) -> socket.socket:
    """A listening TCP socket. Set before `listen`, the options hold for every connection accepted."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, proto)
    with _listening(listener, options.backlog):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer_bytes)
        listener.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, int(options.user_timeout_s * 1000))
        listener.bind(address)
    return listener


def listen_unix(path: str, options: SocketOptions) -> socket.socket:
    """A listening unix socket, for nginx on the same machine. A stale one is replaced, a live one is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _listening(listener, options.backlog):
        _remove_stale(path)
        listener.bind(path)
        os.chmod(path, 0o660)
    return listener


@contextlib.contextmanager
def _listening(listener: socket.socket, backlog: int) -> Iterator[None]:
    """What is done inside comes before listening; where any of it fails, nothing stays open."""
    try:
        yield
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)


def _remove_stale(path: str) -> None:
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.connect(path)
        raise OSError(f"{path} is in use")
    Path(path).unlink()
