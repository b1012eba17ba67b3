"""The guard: no spelling, no name and no answer of a resolver leads inside."""

import ipaddress
import socket
from typing import Any

import pytest

from gateway.transport.guard import Guard, check_url, is_public, networks_of

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1"]
INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.0.10",
    "168.63.129.16",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
NOT_ADDRESSES = ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "", "/run/docker.sock"]
GOOD_URLS = [
    "https://example.com",
    "https://example.com/",
    "https://example.com:8443/hooks/a@b?token=x&y=%20",
    "https://hooks.example.com./x",
    "https://xn--bcher-kva.example/x",
    "https://1.1.1.1/x",
    "https://[2606:4700:4700::1111]:443/x",
    "https://a1.example/x",
]
BAD_URLS = {
    # Where it leads.
    **dict.fromkeys([f"https://[{host}]/" for host in INSIDE if ":" in host and "%" not in host], "public"),
    **dict.fromkeys([f"https://{host}/" for host in INSIDE if "." in host and ":" not in host], "public"),
    "https://localhost/": "this machine",
    "https://LOCALHOST./": "this machine",
    "https://a.localhost:8443/": "this machine",
    # How an address may be spelled besides.
    "https://2130706433/": "usual spelling",
    "https://0x7f000001/": "usual spelling",
    "https://0X7F.1/": "usual spelling",
    "https://017700000001/": "usual spelling",
    "https://0177.0.0.1/": "usual spelling",
    "https://127.0.0.01/": "usual spelling",
    "https://127.1/": "usual spelling",
    "https://127.0.1/": "usual spelling",
    "https://127.0.0.1./": "usual spelling",
    "https://0/": "usual spelling",
    "https://1.1.1.256/": "usual spelling",
    "https://example.123/": "usual spelling",
    "https://[::1/": "plain ASCII",
    "https://[fe80::1%25eth0]/": "plain ASCII",
    "https://１２７.0.0.1/": "plain ASCII",
    "https://127。0。0。1/": "plain ASCII",
    "https://ⓛocalhost/": "plain ASCII",
    "https://%31%32%37.0.0.1/": "plain ASCII",
    # Whom two readers could take for the host.
    "https://user@example.com/": "no user",
    "https://user:word@example.com/": "no user",
    "https://example.com@127.0.0.1/": "no user",
    "https://example.com\\@127.0.0.1/": "no user",
    "https://example.com#@127.0.0.1/": "plain ASCII",
    "https://example.com\\.evil.example/": "plain ASCII",
    "https://exa\tmple.com/": "plain ASCII",
    "https://example.com/\r\nX: y": "plain ASCII",
    " https://example.com/": "plain ASCII",
    "https://example.com/\n": "plain ASCII",
    "https:///x": "plain ASCII",
    "https:example.com": "plain ASCII",
    "//example.com/": "plain ASCII",
    "https://./": "name a host",
    "https://a..b/": "name a host",
    f"https://{'a' * 64}.example/": "name a host",
    f"https://{'a.' * 127}example/": "name a host",
    "https://example.com:0/": "port",
    "https://example.com:65536/": "port",
    f"https://example.com/{'a' * 2048}": "longer",
    # What else can be connected to.
    "http://example.com/": "https",
    "http://1.1.1.1/": "https",
    "HTTPS://example.com/": "plain ASCII",
    "unix:/run/docker.sock": "plain ASCII",
    "http+unix://%2Frun%2Fdocker.sock/": "plain ASCII",
    "file:///etc/passwd": "plain ASCII",
    "gopher://example.com/": "plain ASCII",
    "ws://example.com/": "plain ASCII",
    "": "plain ASCII",
}


def made(guard: Guard, address: str) -> bool:
    """Whether a socket is made for it."""
    info: Any = (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443))
    try:
        guard.socket_for(info).close()
    except PermissionError:
        return False
    return True


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_connected_to(address: str) -> None:
    """In either family."""
    assert is_public(ipaddress.ip_address(address))
    assert made(Guard(), address)


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_that_is_not_public_is_not(address: str) -> None:
    """Loopback, private, shared, link-local, multicast, reserved, unspecified, or IPv4 inside IPv6."""
    assert not is_public(ipaddress.ip_address(address))
    assert not made(Guard(), address)


@pytest.mark.parametrize("text", NOT_ADDRESSES)
def test_what_is_no_address_is_not_left_to_the_kernel(text: str) -> None:
    """It would find an address in some of them."""
    assert not made(Guard(networks_of(["0.0.0.0/0"])), text)


def test_networks_that_are_named_are_open_and_nothing_beside_them() -> None:
    """IPv4 and IPv6; an address inside another one does not count."""
    guard = Guard(networks_of(["10.1.2.0/24", "fd00::/8", "192.168.1.5"]))
    assert all(made(guard, address) for address in ("10.1.2.3", "fd12::1", "192.168.1.5", "1.1.1.1"))
    assert not any(made(guard, address) for address in ("10.1.3.3", "fe80::1", "192.168.1.6", "::ffff:10.1.2.3"))


def test_plain_http_reaches_the_named_networks_alone() -> None:
    """What is said without TLS stays inside."""
    guard = Guard(networks_of(["10.0.0.0/8"]), only_networks=True)
    assert made(guard, "10.1.1.1")
    assert not made(guard, "1.1.1.1")


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_url_is_taken(url: str) -> None:
    """With any port."""
    check_url(url)


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_refused_with_the_reason(url: str) -> None:
    """Before anything is sent, and without repeating it."""
    with pytest.raises(ValueError, match=BAD_URLS[url]) as refused:
        check_url(url)
    assert not url or url not in str(refused.value)


def test_a_url_into_a_named_network_is_taken_by_http_too() -> None:
    """Names as well: what they mean is looked at later."""
    networks = networks_of(["10.0.0.0/8", "127.0.0.0/8"])
    for url in ("http://10.1.1.1:8000/x", "https://10.1.1.1/", "http://inside.example/x", "http://localhost:9/"):
        check_url(url, networks)
    for url in ("http://1.1.1.1/", "http://192.168.1.1/", "https://192.168.1.1/", "http://[::1]/"):
        with pytest.raises(ValueError, match="public"):
            check_url(url, networks)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "ten", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused(text: str) -> None:
    """Also an address with bits beside its mask, which is more often a slip than meant."""
    with pytest.raises(ValueError, match="networks"):
        networks_of([text])
