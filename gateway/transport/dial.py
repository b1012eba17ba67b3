"""Dialling: a connected socket, over whichever address answers first, through a proxy's tunnel where there is one."""

import asyncio
import ipaddress
import socket
import time
from typing import Any

import aiohappyeyeballs

from gateway.errors import Code, GatewayError
from gateway.transport.route import Route

ADDRESSES_KEPT_S = 10.0
"""How long a name's addresses are believed: connections that are opened together ask once."""

HAPPY_EYEBALLS_S = 0.25
"""RFC 8305, section 8: when to try the next address beside the first."""

_TUNNEL_HEAD_MAX_BYTES = 16 * 1024


class Dialler:
    """Opens sockets along one route."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._addresses: list[Any] = []
        self._believed_until = 0.0
        self._asking: asyncio.Task[list[Any]] | None = None

    async def connect(self) -> socket.socket:
        """A socket on which to speak to the upstream. Raises OSError, `UPSTREAM_UNAVAILABLE` where a proxy says no."""
        sock = await aiohappyeyeballs.start_connection(
            await self._resolve(), happy_eyeballs_delay=HAPPY_EYEBALLS_S, interleave=1
        )
        try:
            # A question is one small write, which must not wait for anybody's acknowledgement.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._route.proxy is not None and self._route.tls is not None:
                await self._tunnel(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _resolve(self) -> list[Any]:
        """Where to connect to. Resolvers run in threads, which on a busy core can take long: an address asks none."""
        if time.monotonic() >= self._believed_until:
            host, port = self._route.hop
            try:
                self._addresses = [_address(host, port)]
                self._believed_until = float("inf")
            except ValueError:
                if self._asking is None or self._asking.done():
                    self._asking = asyncio.create_task(self._ask(host, port))
                # Whoever of those that wait gives up, the others go on waiting.
                return await asyncio.shield(self._asking)
        return self._addresses

    async def _ask(self, host: str, port: int) -> list[Any]:
        self._addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._believed_until = time.monotonic() + ADDRESSES_KEPT_S
        return self._addresses

    async def _tunnel(self, sock: socket.socket) -> None:
        """Ask the proxy for a tunnel (RFC 9110, section 9.3.6)."""
        assert self._route.proxy is not None
        loop, target = asyncio.get_running_loop(), self._route.tunnel
        request = b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target)
        if self._route.proxy.credentials:
            request += b"Proxy-Authorization: " + self._route.proxy.credentials + b"\r\n"
        await loop.sock_sendall(sock, request + b"\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            piece = await loop.sock_recv(sock, 4096)
            head += piece
            if not piece or len(head) > _TUNNEL_HEAD_MAX_BYTES:
                raise GatewayError(Code.UPSTREAM_UNAVAILABLE, "the proxy did not answer")
        if not head.partition(b" ")[2].startswith(b"2"):
            raise GatewayError(Code.UPSTREAM_UNAVAILABLE, "the proxy refused to connect to the upstream")


def _address(host: str, port: int) -> tuple[Any, ...]:
    """What `getaddrinfo` gives for an address. Raises ValueError for a name."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    rest = (0, 0) if family is socket.AF_INET6 else ()
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, *rest)
