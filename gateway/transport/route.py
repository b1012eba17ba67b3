"""Route: how an upstream is reached, over TLS or not, through a proxy or not."""

import base64
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

_PORTS = {"http": 80, "https": 443}


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
        if ":" in self.host:
            return f"[{self.host}]".encode()
        return self.host.encode("ascii" if self.host.isascii() else "idna")

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
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("the upstream's URL must be http://… or https://…")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError("the upstream's URL has no good port") from None
    if parts.username or parts.fragment:
        raise ValueError("the upstream's URL must hold no user and no fragment")
    tls = trust() if parts.scheme == "https" else None
    path, query = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~-._"), f"?{parts.query}" if parts.query else ""
    return Route(parts.hostname, port, path, query, tls, _proxy_for(parts))


def trust() -> ssl.SSLContext:
    """Verifies certificates by the authorities of `SSL_CERT_FILE`, `SSL_CERT_DIR`, the system, or certifi's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or paths.capath):
        context.load_verify_locations(certifi.where())
    return context


def _proxy_for(parts: SplitResult) -> Proxy | None:
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found:
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise ValueError(f"the proxy for {parts.scheme} is not an http:// one, and no other kind can be used")
    user = b""
    if proxy.username is not None:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        user = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(proxy.hostname, proxy.port or 80, user)
