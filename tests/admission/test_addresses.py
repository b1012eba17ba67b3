"""Where a request comes from: the socket's peer, or what trusted proxies say."""

import pytest

from gateway.admission.addresses import Proxies, all_here, group, is_here

INSIDE = ("10.0.0.0/8", "fd00::/8")

TABLE = [
    # peer, header, client
    ("203.0.113.7", "", "203.0.113.7"),
    ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
    ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
    ("10.0.0.1", "6.6.6.6,198.51.100.1,10.0.0.2,10.9.9.9", "198.51.100.1"),
    ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ("10.0.0.1", "", "10.0.0.1"),
    ("10.0.0.1", "unknown", "10.0.0.1"),
    ("10.0.0.1", "198.51.100.1:4711", "10.0.0.1"),
    ("10.0.0.1", "198.51.100.1, garbage", "10.0.0.1"),
    ("10.0.0.1", "garbage, 198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", ",", "10.0.0.1"),
    ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
    ("fd00::1", "2001:db8::1, fd00::2", "2001:db8::1"),
    ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("::ffff:203.0.113.7", "", "203.0.113.7"),
    ("fe80::1%eth0", "", "fe80::1"),
    ("", "198.51.100.1", ""),
]


@pytest.mark.parametrize(("peer", "header", "client"), TABLE)
def test_only_trusted_hops_say_where_a_request_comes_from(peer: str, header: str, client: str) -> None:
    """The right-most address that no trusted proxy has; a header that is no list of addresses says nothing."""
    assert Proxies(INSIDE).client(peer, header) == client


def test_a_unix_socket_is_trusted_unless_it_is_left_out() -> None:
    """Only a proxy on this machine can connect to it."""
    assert Proxies().client("", "198.51.100.1") == "198.51.100.1"
    assert Proxies().client("", "6.6.6.6, 198.51.100.1") == "198.51.100.1"
    assert Proxies(()).client("", "198.51.100.1") == ""
    assert Proxies().client("127.0.0.1", "198.51.100.1") == "127.0.0.1"


def test_what_is_no_network_is_refused() -> None:
    """At the start, not at the first request."""
    with pytest.raises(ValueError, match="must be IP addresses or networks"):
        Proxies(["proxy.example"])


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff")],
)
def test_addresses_of_one_ipv6_network_count_as_one(one: str, other: str) -> None:
    """Whoever has one of them has all 2^64."""
    assert group(one) == group(other)
    assert group("2001:db8:1:3::1") != group(one)
    assert group("198.51.100.1") == "198.51.100.1"
    assert group("") == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", ""])
def test_loopback_is_here(address: str) -> None:
    """In whatever spelling."""
    assert is_here(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "0.0.0.0", "::", "garbage", "198.51.100.1"])
def test_everything_else_is_not_here(address: str) -> None:
    """Not even what is near."""
    assert not is_here(address)
    assert not all_here(f"127.0.0.1, {address}")
