"""Addresses: where a request comes from, as far as those who passed it on are trusted to say so."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNIX = "unix"
"""The name, among the trusted proxies, of whoever may connect to our unix socket."""

GROUP_BITS = 64
"""Of an IPv6 address: a household or a rented server has all that begin with them, and may use each once."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks (`10.0.0.0/8`). Raises ValueError at the first that is neither."""
    found = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError:
            raise ValueError("must be IP addresses or networks") from None
    return tuple(found)


class Proxies:
    """Those that are trusted to say for whom they ask, in `X-Forwarded-For`: networks, and `unix`."""

    def __init__(self, trusted: Iterable[str] = (UNIX,)) -> None:
        names = list(trusted)
        self._unix = UNIX in names
        self._networks = parse_networks(name for name in names if name != UNIX)

    def client(self, peer: str, forwarded: str) -> str:
        """The client's address, by its socket's `peer` (empty for a unix socket) and the header; empty if unknown.

        Read from the right, where the nearest proxy writes: what stands left of the first address that is not trusted
        is a claim of whoever that is. A header that is no list of addresses says nothing.
        """
        if not forwarded or not self.trusts_peer(peer):
            return _plain(peer)
        client = _plain(peer)
        for word in reversed(forwarded.split(",")):
            address = _parse(word.strip())
            if address is None:
                return _plain(peer)
            client = str(address)
            if not self._trusts(address):
                break
        return client

    def trusts_peer(self, peer: str) -> bool:
        """Whether what comes by a socket with that `peer` is believed about where it comes from."""
        if not peer:
            return self._unix
        address = _parse(peer)
        return address is not None and self._trusts(address)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def group(address: str) -> str:
    """The address by which limits count: of IPv6 the first 64 bits."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, GROUP_BITS), strict=False))
    return address


@lru_cache(maxsize=1024)
def is_here(address: str) -> bool:
    """Whether it is this machine's own; an unknown one is, since only a unix socket's is unknown."""
    parsed = _parse(address)
    return not address or (parsed is not None and parsed.is_loopback)


def all_here(forwarded: str) -> bool:
    """Whether nobody from elsewhere stands in this `X-Forwarded-For`, whoever wrote it."""
    return all(is_here(word) for word in map(str.strip, forwarded.split(",")) if word)


def _plain(address: str) -> str:
    """Without what only this machine understands (`%eth0`), and IPv4 as such."""
    return str(parsed) if ("%" in address or ":" in address) and (parsed := _parse(address)) else address


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
