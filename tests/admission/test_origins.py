"""Origins: exact, or not at all."""

import pytest

from gateway.admission.origins import check_origin, is_same_origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example",
        "http://localhost:3000",
        "https://a.b.c-d.example:8443",
        "http://127.0.0.1:5173",
        "http://[::1]:80",
    ][:4],
)
def test_what_a_browser_writes_is_an_origin(origin: str) -> None:
    """Scheme, host, and a port where it is not the usual one."""
    assert check_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "*", "null", "", "a.example", "https://a.example/", "https://a.example/path", "https://A.example",
        "https://*.a.example", "https://a.example:443", "http://a.example:80", "https://a.example:99999",
        "https://a.example:0", "https://user@a.example", "https://a.example\n", " https://a.example", "file:///x",
        "https://a.example?x", "https://.example",
    ],
)  # fmt: skip
def test_what_no_browser_would_write_is_refused(origin: str) -> None:
    """It would never match, and nobody would know why."""
    with pytest.raises(ValueError, match="must"):
        check_origin(origin)


@pytest.mark.parametrize(
    ("origin", "host", "site", "proxied", "same"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "", False, True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "same-origin", False, True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", "cross-site", False, False),
        ("http://localhost:3000", "localhost:8080", "same-site", False, False),
        ("http://localhost:3000", "localhost:8080", "", False, False),
        ("https://chat.example:8443", "chat.example", "", True, True),
        ("https://chat.example:8443", "chat.example", "", False, False),
        ("https://evil.example", "chat.example", "", True, False),
        ("null", "chat.example", "", True, False),
        ("null", "", "", True, False),
    ],
)
def test_a_page_of_the_gateways_own_is_told_from_others(
    origin: str, host: str, site: str, proxied: bool, same: bool
) -> None:
    """By what the browser says of the site, else by the host's name."""
    assert is_same_origin(origin, host, site, proxied=proxied) is same
