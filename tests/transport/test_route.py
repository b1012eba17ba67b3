"""Routes: what of a URL reaches the wire, which proxy stands on the way, and what is refused by name."""

import base64
import os

import pytest

from gateway.transport.route import route_to


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what the developer has set reaches these tests."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("url", "hop", "authority", "target"),
    [
        ("http://up/v1", ("up", 80), b"up", b"/v1/models"),
        ("http://up", ("up", 80), b"up", b"/models"),
        ("http://up/", ("up", 80), b"up", b"/models"),
        ("http://up/v1///", ("up", 80), b"up", b"/v1/models"),
        ("http://up:80/v1", ("up", 80), b"up", b"/v1/models"),
        ("http://up:443/v1", ("up", 443), b"up:443", b"/v1/models"),
        ("http://up:/v1", ("up", 80), b"up", b"/v1/models"),
        ("https://up/v1", ("up", 443), b"up", b"/v1/models"),
        ("https://up:443", ("up", 443), b"up", b"/models"),
        ("https://up:80", ("up", 80), b"up:80", b"/models"),
        ("HTTP://UP.Example:8000/V1", ("up.example", 8000), b"up.example:8000", b"/V1/models"),
        ("http://[::1]:8000/v1", ("::1", 8000), b"[::1]:8000", b"/v1/models"),
        ("http://[2001:DB8::1]", ("2001:db8::1", 80), b"[2001:db8::1]", b"/models"),
        ("http://up_1.internal/v1", ("up_1.internal", 80), b"up_1.internal", b"/v1/models"),
        ("http://münchen.example", ("xn--mnchen-3ya.example", 80), b"xn--mnchen-3ya.example", b"/models"),
        ("http://up/a b/ü", ("up", 80), b"up", b"/a%20b/%C3%BC/models"),
        ("http://up/a%20b/c%2Fd", ("up", 80), b"up", b"/a%20b/c%2Fd/models"),
        ("http://up/v1?api-version=1", ("up", 80), b"up", b"/v1/models?api-version=1"),
        ("http://up/v1/?a=1&b=%2F?/ü x", ("up", 80), b"up", b"/v1/models?a=1&b=%2F?/%C3%BC%20x"),
        ("http://up?", ("up", 80), b"up", b"/models"),
        ("http://up/v1#", ("up", 80), b"up", b"/v1/models"),
    ],
)
def test_a_url_becomes_a_hop_a_host_and_a_target(
    url: str, hop: tuple[str, int], authority: bytes, target: bytes
) -> None:
    """The Host header leaves out the scheme's own port; the query stays behind whatever is asked for."""
    route = route_to(url)
    assert (route.hop, route.authority, route.target("/models")) == (hop, authority, target)
    assert (route.tls is not None) == url.lower().startswith("https")
    assert route.proxy is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must be http://"),
        ("up:8000/v1", "must be http://"),
        ("//up/v1", "must be http://"),
        ("ftp://up/v1", "must be http://"),
        ("http:///v1", "must be http://"),
        ("http://:8000/v1", "must be http://"),
        ("http://up:port/v1", "no good port"),
        ("http://up:65536/v1", "no good port"),
        ("http://up:-1/v1", "no good port"),
        ("http://up:0/v1", "no good port"),
        ("http://user@up/v1", "no user"),
        ("http://user:secret@up/v1", "no user"),
        ("http://:secret@up/v1", "no user"),
        ("http://@up/v1", "no user"),
        ("http://up/v1#models", "no fragment"),
        ("http://[::1/v1", "is not one"),
        ("http://a..b/v1", "no good host"),
        ("http://.up/v1", "no good host"),
        ("http://" + "a" * 64 + "/v1", "no good host"),
        ("http://ü..b/v1", "no good host"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_by_name(url: str, reason: str) -> None:
    """One sentence about the upstream's URL, and nothing of the URL: it may hold a secret."""
    with pytest.raises(ValueError, match=reason) as refused:
        route_to(url)
    assert str(refused.value).startswith("the upstream's URL ")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("scheme", "environment", "hop"),
    [
        ("http", {"HTTP_PROXY": "http://proxy:3128"}, ("proxy", 3128)),
        ("http", {"http_proxy": "http://proxy:3128"}, ("proxy", 3128)),
        ("http", {"http_proxy": "http://small:1", "HTTP_PROXY": "http://large:2"}, ("small", 1)),
        ("http", {"HTTPS_PROXY": "http://proxy:3128"}, ("up", 80)),
        ("https", {"HTTPS_PROXY": "http://proxy:3128"}, ("proxy", 3128)),
        ("https", {"HTTP_PROXY": "http://proxy:3128"}, ("up", 443)),
        ("http", {"ALL_PROXY": "http://proxy:3128"}, ("proxy", 3128)),
        ("https", {"all_proxy": "http://proxy:3128"}, ("proxy", 3128)),
        ("http", {"ALL_PROXY": "http://any:1", "HTTP_PROXY": "http://own:2"}, ("own", 2)),
        ("http", {"HTTP_PROXY": "proxy:3128"}, ("proxy", 3128)),
        ("http", {"HTTP_PROXY": "http://proxy"}, ("proxy", 80)),
        ("http", {"HTTP_PROXY": "http://[::1]:3128/"}, ("::1", 3128)),
        ("http", {"HTTP_PROXY": ""}, ("up", 80)),
        ("http", {"HTTP_PROXY": "http://proxy:3128", "http_proxy": ""}, ("up", 80)),
        ("http", {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "other,up"}, ("up", 80)),
        ("http", {"ALL_PROXY": "http://proxy:3128", "no_proxy": "*"}, ("up", 80)),
        ("http", {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "other"}, ("proxy", 3128)),
        ("http", {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "up:81"}, ("proxy", 3128)),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, scheme: str, environment: dict[str, str], hop: tuple[str, int]
) -> None:
    """In small letters or capitals, the small ones winning, as everywhere; the Host stays the upstream's."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    route = route_to(f"{scheme}://up/v1")
    assert route.hop == hop
    assert route.authority == b"up"


@pytest.mark.parametrize(
    ("url", "spared"),
    [("http://api.up.example/v1", True), ("http://up.example:81/v1", True), ("http://upexample/v1", False)],
)
def test_no_proxy_spares_a_domain_with_all_in_it(monkeypatch: pytest.MonkeyPatch, url: str, spared: bool) -> None:
    """Whatever the port."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", ".up.example")
    assert (route_to(url).proxy is None) == spared


def test_a_proxy_is_told_the_whole_url_unless_it_is_tunnelled_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a tunnel always with its port."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    assert route_to("http://up:81/v1?a=1").target("/models") == b"http://up:81/v1/models?a=1"
    assert route_to("http://up/v1").target("/models") == b"http://up/v1/models"
    assert route_to("https://up/v1").target("/models") == b"/v1/models"
    assert route_to("https://up/v1").tunnel == b"up:443"
    assert route_to("https://[::1]/v1").tunnel == b"[::1]:443"


@pytest.mark.parametrize(
    ("user", "pair"),
    [
        ("alice:secret@", b"alice:secret"),
        ("alice@", b"alice:"),
        (":secret@", b":secret"),
        ("al%40ice:s%3Acr%20t@", b"al@ice:s:cr t"),
        ("%C3%BC:x@", "ü:x".encode()),
    ],
)
def test_a_proxy_s_credentials_are_read_from_its_url(monkeypatch: pytest.MonkeyPatch, user: str, pair: bytes) -> None:
    """As HTTP's basic ones."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{user}proxy:3128")
    proxy = route_to("http://up").proxy
    assert proxy is not None
    assert proxy.credentials == b"Basic " + base64.b64encode(pair)
    assert (proxy.host, proxy.port) == ("proxy", 3128)


def test_a_proxy_without_credentials_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even empty ones."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    proxy = route_to("http://up").proxy
    assert proxy is not None
    assert proxy.credentials == b""


@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        ("socks5://proxy:1080", "not an http:// one, and no other kind can be used"),
        ("socks5h://user:secret@proxy:1080", "not an http:// one, and no other kind can be used"),
        ("https://proxy:3129", "not an http:// one, and no other kind can be used"),
        ("http://:3128", "not an http:// one"),
        ("http://proxy:secret", "no good port"),
        ("http://proxy:0", "no good port"),
        ("http://a..b:3128", "no good host"),
        ("http://[::1:3128", "is not one"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, proxy: str, reason: str
) -> None:
    """Never gone around in silence, and its secret is not told."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ValueError, match=reason) as refused:
        route_to("https://up/v1")
    assert str(refused.value).startswith("the proxy for https ")
    assert "secret" not in str(refused.value)
