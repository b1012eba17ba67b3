"""API keys: made here, kept as digests only, and found again by them."""

import hashlib
import hmac
import re
import secrets

PREFIX = "sk-"
BYTES = 32
"""Of chance in a key: so many cannot be guessed, and need no slow hash."""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def new_key() -> str:
    """A key that nobody has seen yet."""
    return PREFIX + secrets.token_urlsafe(BYTES)


def digest_of(key: str) -> str:
    """What is kept of a key, as 64 hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def written(digest: str) -> str:
    """A digest as the tenants file has it."""
    return f"sha256:{digest}"


def parse_digest(text: str) -> str:
    """The digest that stands in a tenants file. Raises ValueError, which does not repeat it: it might be a key."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise ValueError("must be sha256: and 64 hexadecimal digits, as `python -m gateway keys new` prints it")
    return found[1]


def same(one: str, other: str) -> bool:
    """Whether two digests are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(one, other)
