"""Tenant: one customer of the gateway, and what it has been given."""

from dataclasses import dataclass, field

from pydantic import SecretStr

from gateway.request import Caps, Preferences

OPEN_NAME = "local"


@dataclass(frozen=True, slots=True)
class Features:
    """What a tenant may use. An empty tuple allows every one."""

    streaming: bool = True
    streaming_percent: float = 100.0
    voice: bool = True
    models: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a tenant may ask; 0 is no limit. `window_s` is in seconds, tokens are prompt and answer together."""

    window_s: float = 60.0
    requests: int = 0
    requests_per_user: int = 0
    requests_per_session: int = 0
    requests_per_ip: int = 0
    concurrent: int = 0
    concurrent_per_client: int = 0
    tokens_per_day: int = 0
    max_input_chars: int = 0
    max_messages: int = 0


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where a tenant is told of its streams. Each message is signed with every secret, so that one can be renewed."""

    url: str
    secrets: tuple[SecretStr, ...]
    events: tuple[str, ...] = ()
    """Those that it wants to hear of; empty is all."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One of them, as its part of the tenants file says. What was left out there has the gateway's own settings."""

    name: str
    features: Features = field(default_factory=Features)
    limits: Limits = field(default_factory=Limits)
    priority: str = "standard"
    caps: Caps | None = None
    preferences: Preferences | None = None
    origins: tuple[str, ...] = ()
    webhook: WebhookTarget | None = None


OPEN = Tenant(OPEN_NAME)
"""Who asks where no tenants are configured: anybody on this machine."""
