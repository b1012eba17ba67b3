"""Target: where messages go, once it has been looked at and found good."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.admission.tenant import WebhookTarget
from gateway.transport.guard import Network, check_url
from gateway.webhooks.message import TYPES, key_of


class Target(NamedTuple):
    """A URL, the keys that sign, and the types of messages that are wanted there."""

    url: str
    keys: tuple[bytes, ...]
    types: frozenset[str]


def checked(wanted: WebhookTarget, networks: Sequence[Network] = ()) -> Target:
    """The same, ready for use. Raises ValueError with what is wrong with it; no secret is in that."""
    try:
        check_url(wanted.url, networks)
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    if not wanted.secrets:
        raise ValueError("secrets: there must be one at least")
    try:
        keys = tuple(key_of(secret) for secret in wanted.secrets)
    except ValueError as error:
        raise ValueError(f"secrets: {error}") from None
    if not set(wanted.events) <= set(TYPES):
        raise ValueError(f"events: must be of {', '.join(TYPES)}")
    return Target(wanted.url, keys, frozenset(wanted.events or TYPES))
