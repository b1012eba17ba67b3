"""Guard: connections only to addresses of the public Internet, looked at when they are made, not when they are named.

A name that is harmless when it is checked can mean another address a moment later (DNS rebinding), so the address
itself is checked, each time that a socket is made for it.
"""

import errno
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_MAX_CHARACTERS = 2048

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[!$%&'()*+,./:;=@~\w-]*)?(?:\?[!$%&'()*+,./:;=?@~\w-]*)?",
    re.ASCII,
)
"""Far less than RFC 3986 allows: no user, no fragment, nothing that two readers of a URL could take differently."""

_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
"""A last label like this makes a host an IPv4 address (WHATWG URL, section 3.5), however strangely it is spelled."""

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""IANA gives out nothing else (RFC 4291, section 2.4). Outside are mapped, compatible and NAT64 addresses, which hold
an IPv4 one, unique local, link-local and multicast ones."""

_NOT_PUBLIC: tuple[Network, ...] = (
    ipaddress.IPv4Network("168.63.129.16/32"),  # Of every machine of Azure its host: secrets, DNS, health.
    ipaddress.IPv4Network("192.0.0.0/24"),  # Protocols' own, some of them global (RFC 6890).
    ipaddress.IPv4Network("192.88.99.0/24"),  # Relays of 6to4 (RFC 7526).
    ipaddress.IPv6Network("2001::/23"),  # Protocols' own, Teredo among them (RFC 2928, RFC 4380).
    ipaddress.IPv6Network("2002::/16"),  # 6to4: holds an IPv4 address (RFC 3056).
    ipaddress.IPv6Network("3fff::/20"),  # Documentation (RFC 9637).
)
"""What the standard library takes, or has taken, for global, and must not be sent to all the same."""


class Guard:
    """Makes sockets to public addresses, and to those of `networks`; with `only_networks` to none but these."""

    def __init__(self, networks: Sequence[Network] = (), *, only_networks: bool = False) -> None:
        self._networks = networks
        self._only_networks = only_networks

    def socket_for(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """A socket for one of the answers of `getaddrinfo`, to be connected to it.

        Raises PermissionError where it may not be: one more address that cannot be reached.
        """
        family, kind, protocol, _, where = addr_info
        if not self._allows(str(where[0])):
            raise PermissionError(errno.EACCES, "the address is not public")
        return socket.socket(family, kind, protocol)

    def _allows(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False  # The kernel might see an address in it all the same.
        return _within(address, self._networks) or (not self._only_networks and is_public(address))


def is_public(address: Address) -> bool:
    """Whether it belongs to one host of the public Internet: not loopback, private, shared (100.64.0.0/10), link-local,
    multicast, reserved or unspecified, nor an IPv6 address that stands for an IPv4 one.
    """
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return (
        address.is_global and not address.is_multicast and not address.is_reserved and not _within(address, _NOT_PUBLIC)
    )


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks that are written so: `10.0.0.0/8`, `fd00::/8`, or one address. Raises ValueError for others."""
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError:
        raise ValueError("must be networks, such as 10.0.0.0/8 or fd00::/8, or addresses") from None


def check_url(url: str, networks: Sequence[Network] = ()) -> None:
    """Raise ValueError, with what is wrong with it, for a URL that can never be sent to.

    Any port may be named, because nothing but a TLS handshake is said to a public address before it has answered one.
    Plain http is for `networks` alone. What a name means is checked by a `Guard` when it is connected to.
    """
    if len(url) > URL_MAX_CHARACTERS:
        raise ValueError(f"is longer than {URL_MAX_CHARACTERS} characters")
    if "@" in re.split("[/?#]", url.partition("//")[2])[0]:
        raise ValueError("must hold no user and no password")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("must be https://host/path in plain ASCII, without a fragment")
    if parts["scheme"] == "http" and not networks:
        raise ValueError("must begin with https://; http:// is for networks that are allowed by name")
    if parts["port"] is not None and not 0 < int(parts["port"]) < 65536:
        raise ValueError("must have a port between 1 and 65535")
    _check_host(parts["host"], networks, plain=parts["scheme"] == "http")


def _check_host(host: str, networks: Sequence[Network], *, plain: bool) -> None:
    name = host.rstrip(".").lower()
    if host.startswith("[") or _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            raise ValueError("must name a host, or an address in its usual spelling") from None
        if not _within(address, networks) and (plain or not is_public(address)):
            raise ValueError("must name a public address, or one in a network that is allowed by name")
    elif not name or len(name) > 253 or any(not 0 < len(label) < 64 for label in name.split(".")):
        raise ValueError("must name a host")
    elif (name == "localhost" or name.endswith(".localhost")) and not any(n.is_loopback for n in networks):
        raise ValueError("must not name this machine")


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
