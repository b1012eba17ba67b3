"""Origins: the pages that may ask from a browser, by exact match and nothing else."""

import re
from functools import lru_cache
from ipaddress import ip_address

_ORIGIN = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?")
_PORT = re.compile(r":[0-9]*\Z(?<!::)")
_DEFAULT_PORT = {"http": "80", "https": "443"}


def check_origin(text: str) -> str:
    """An origin as browsers write it (RFC 6454 section 6.1). Raises ValueError for what no browser would send.

    So no `*`, no `null`, no path, nothing in capitals, no port that the scheme has anyway: it would never match.
    """
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise ValueError("must be scheme://host or scheme://host:port in lower case, without a path")
    if found[3] is not None and (found[3] == _DEFAULT_PORT[found[1]] or int(found[3]) > 65_535):
        raise ValueError("must not name the port that its scheme has anyway, nor one above 65535")
    return text


def is_foreign(site: str) -> bool:
    """Whether `Sec-Fetch-Site` says that another site's page asks: a browser sends no `Origin` with the GETs of images
    and frames, nor with links that are followed.
    """
    return site in ("cross-site", "same-site")


@lru_cache(maxsize=256)
def is_local_name(host: str) -> bool:
    """Whether a `Host` is this machine's own name, or a loopback address. Any other may be a name that somebody lets
    point here (DNS rebinding), so that its pages are taken for ours by the browser. Programs may leave it out.
    """
    name = host.lower()
    found = _PORT.search(name)
    if found is not None:
        name = name[: found.start()]
    if name in ("", "localhost"):
        return True
    try:
        return ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def is_same_origin(origin: str, host: str, site: str, *, proxied: bool) -> bool:
    """Whether a page asks its own server: by `Sec-Fetch-Site`, which no page can forge, or by the name of the host.

    A proxy may hide the port that the browser sees, so behind one (`proxied`) the name alone must do.
    """
    if site:
        return site in ("same-origin", "none")
    place = origin.partition("://")[2]
    if not place or not host:
        return False
    return place == host or (proxied and place.rpartition(":")[0] == host)
