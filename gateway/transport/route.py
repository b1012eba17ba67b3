"""Route: how an upstream is reached, over TLS or not, through a proxy or not."""

import base64
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

_PORTS = {"http": 80, "https": 443}
_PATH = "/%:@!$&'()*+,;=~-._"
"""What a path may hold as it is (RFC 3986, section 3.3), and the percent sign of what is quoted already."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy on the way. `credentials` is the value of its Proxy-Authorization, empty for none."""

    host: str
    port: int
    credentials: bytes = b""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the upstream is: `host` and `port` of its URL, `path` without a slash at its end, `query` with its "?"."""

    host: str
    port: int
    path: str
    query: str
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None

    @property
    def authority(self) -> bytes:
        """The value of the Host header (RFC 9112, section 3.2); the scheme's own port is left out."""
        own = self.port == (443 if self.tls else 80)
        return self._name if own else self.tunnel

    @property
    def tunnel(self) -> bytes:
        """What a proxy is asked to connect to (RFC 9112, section 3.2.3)."""
        return b"%b:%d" % (self._name, self.port)

    @property
    def _name(self) -> bytes:
        return (f"[{self.host}]" if ":" in self.host else self.host).encode("ascii")

    @property
    def hop(self) -> tuple[str, int]:
        """Whom the connection is made to."""
        return (self.proxy.host, self.proxy.port) if self.proxy else (self.host, self.port)

    def target(self, path: str) -> bytes:
        """The request's target; a proxy that is not tunnelled through wants the whole URL (RFC 9112, section 3.2.2)."""
        origin = (self.path + path + self.query).encode("ascii")
        if self.proxy is not None and self.tls is None:
            return b"http://" + self.authority + origin
        return origin


def route_to(url: str) -> Route:
    """The route to `url`, by the proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name, if any.

    Raises ValueError with the reason where there is none.
    """
    parts = _split(url, "the upstream's URL")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("the upstream's URL must be http://… or https://…")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("the upstream's URL must hold no user and no fragment")
    host, port = _host_and_port(parts, _PORTS[parts.scheme], "the upstream's URL")
    tls = trust() if parts.scheme == "https" else None
    path, query = quote(parts.path.rstrip("/"), safe=_PATH), quote(parts.query, safe=_PATH + "?")
    return Route(host, port, path, f"?{query}" if query else "", tls, _proxy_for(parts))


def trust() -> ssl.SSLContext:
    """Verifies certificates by the authorities of `SSL_CERT_FILE`, `SSL_CERT_DIR`, the system, or certifi's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or (paths.capath and any(Path(paths.capath).iterdir()))):
        context.load_verify_locations(certifi.where())
    return context


def _proxy_for(parts: SplitResult) -> Proxy | None:
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found:
        return None
    what = f"the proxy for {parts.scheme}"
    proxy = _split(found if "://" in found else f"http://{found}", what)
    if proxy.scheme != "http" or not proxy.hostname:
        raise ValueError(f"{what} is not an http:// one, and no other kind can be used")
    host, port = _host_and_port(proxy, 80, what)
    user = b""
    if proxy.username is not None:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        user = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(host, port, user)


def _split(url: str, what: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(f"{what} is not one") from None


def _host_and_port(parts: SplitResult, default: int, what: str) -> tuple[str, int]:
    """The host as resolvers and TLS want it: a name in letters of other scripts is one in ASCII too (RFC 5891)."""
    host = parts.hostname or ""
    try:
        host = host if ":" in host else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{what} has no good host") from None
    try:
        port = default if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise ValueError(f"{what} has no good port")
    return host, port
