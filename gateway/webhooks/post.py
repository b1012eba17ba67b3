"""Post: one attempt to hand a message over, and what came of it in the few words that matter for the next one."""

import errno
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver

from gateway.transport.guard import Guard, Network
from gateway.transport.route import trust

OK, GONE, REFUSED = "ok", "gone", "refused"
RESULTS = (OK, GONE, REFUSED, "busy", "redirected", "failing", "timeout", "unreachable", "tls", "blocked")
"""The closed set of what an attempt can come to; after all but the first three another one may help."""

HEAD_MAX_BYTES = 8190
_HEADERS = {"Content-Type": "application/json", "User-Agent": "sse-gateway"}
_AGAIN = frozenset({408, 429})


class Reply(NamedTuple):
    """One of `RESULTS`, and how long the receiver asks to be left alone, in seconds."""

    result: str
    retry_after_s: float = 0.0


class Post(Protocol):
    """Sends a message once. Never raises but where it is cancelled."""

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """What came of it."""

    async def close(self) -> None:
        """Let go of what is held."""


class HttpPost:
    """Over HTTP: no redirects, no proxies, no cookies, nothing read of the answer but its head.

    Sockets are made by a `Guard`; what goes over plain HTTP reaches the allowed networks only.
    """

    def __init__(
        self, networks: Sequence[Network], *, timeout_s: float, resolver: AbstractResolver | None = None
    ) -> None:
        self._networks = networks
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._resolver = resolver
        self._secure: aiohttp.ClientSession | None = None
        self._plain: aiohttp.ClientSession | None = None

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send it. A receiver has `timeout_s` for all of it."""
        try:
            session = self._session(plain=url.startswith("http://"))
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return judged(response.status, response.headers.get("Retry-After", ""))
        except TimeoutError:
            return Reply("timeout")
        except aiohttp.ClientSSLError:
            return Reply("tls")
        except aiohttp.ClientConnectorError as error:
            return Reply("blocked" if error.os_error.errno == errno.EACCES else "unreachable")
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError):
            # uvloop says RuntimeError of a socket that was closed under it.
            return Reply("unreachable")

    def _session(self, *, plain: bool) -> aiohttp.ClientSession:
        if plain:
            self._plain = self._plain or self._made(Guard(self._networks, only_networks=True))
            return self._plain
        self._secure = self._secure or self._made(Guard(self._networks))
        return self._secure

    def _made(self, guard: Guard) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=trust(),
            resolver=self._resolver,
            use_dns_cache=False,
            socket_factory=guard.socket_for,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=HEAD_MAX_BYTES,
            max_line_size=HEAD_MAX_BYTES,
            max_field_size=HEAD_MAX_BYTES,
        )

    async def close(self) -> None:
        """Let go of the connections."""
        for session in (self._secure, self._plain):
            if session is not None:
                await session.close()


def judged(status: int, retry_after: str) -> Reply:
    """What a status means: 2xx is delivered, 410 is never again, another 4xx no, and all else not now."""
    if 200 <= status < 300:
        return Reply(OK)
    if status == 410:
        return Reply(GONE)
    if status in _AGAIN:
        return Reply("busy", seconds_of(retry_after))
    if 400 <= status < 500:
        return Reply(REFUSED)
    if 300 <= status < 400:
        return Reply("redirected")
    return Reply("failing", seconds_of(retry_after))


def seconds_of(retry_after: str) -> float:
    """The value of a Retry-After header (RFC 9110, section 10.2.3), which may be a date; 0 for what is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return 0.0
