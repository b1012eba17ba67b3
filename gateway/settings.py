"""Settings: `config/gateway.toml`, each value overridden by `GATEWAY_<SECTION>__<NAME>`, all checked before the start.

The ecosystem's own names (`OPENAI_API_KEY`, `STREAMING_TIMEOUT` …) are heard too, where the gateway's are not set.
"""

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

PREFIX = "GATEWAY_"

ADMIN_TOKEN_MIN = 16
"""Characters: nobody guesses so many."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(ge=1024, le=64 * 1024**3)]
Limit = Annotated[int, Field(ge=0, le=10_000_000)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


class SettingsError(Exception):
    """A setting is wrong; the message names it and says what is allowed."""


def _http_url(value: str) -> str:
    if not value:
        return value
    if not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0 and value.isprintable() and " " not in value
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must name a host, and a port between 1 and 65535 if any")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        return value
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    try:
        parts = urlsplit(text)
        usable = (bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname)) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must name a host, and a port between 1 and 65535 if any, or the path of a unix socket")
    return value


def _proxies(value: list[str]) -> list[str]:
    for text in value:
        try:
            if text != "unix":
                ip_network(text)
        except ValueError:
            raise ValueError("must be IP addresses, networks, or unix") from None
    return value


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return value


def _loopback(value: str) -> str:
    try:
        usable = value == "localhost" or ip_address(value).is_loopback
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be an address of this machine alone, such as 127.0.0.1 or ::1")
    return value


def _networks(values: list[str]) -> list[str]:
    try:
        for value in values:
            ip_network(value)
    except ValueError:
        raise ValueError(
            "must be networks such as 10.0.0.0/8 or 2001:db8::/32, with no bits behind the prefix"
        ) from None
    return values


class Section(BaseModel):
    """A table of the file. A name that is not known is an error, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """The listener, and what one connection may do."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    uds: str = ""
    backlog: Count = 4096
    send_buffer_bytes: Bytes = 32 * 1024
    user_timeout_s: Seconds = 15
    keepalive_s: Seconds = 75
    body_s: Seconds = 15
    max_body_bytes: Bytes = 2 * 1024**2
    max_connections: Count = 10_000
    docs: bool = True
    trusted_proxies: Annotated[list[str], AfterValidator(_proxies)] = ["unix"]


class Stream(Section):
    """One answer: its times, its bounds, and how long it is kept."""

    enabled: bool = True
    first_token_s: Seconds = 60
    silence_s: Seconds = 30
    total_s: Seconds = 900
    follower_s: Seconds = 30
    # Of the same type whether it is set or not: it is part of what makes two questions the same.
    grace_s: float = Field(30.0, ge=0, le=3600)
    grace_max_s: float = Field(600, ge=0, le=86_400)
    retention_s: Seconds = 600
    max_bytes: Bytes = 2 * 1024**2
    max_events: Count = 65_536
    max_audio_s: Seconds = 20
    max_output_bytes: Bytes = 1024**2
    max_streams: Count = 10_000
    store_max_bytes: Bytes = 256 * 1024**2


class Delivery(Section):
    """One client's reading."""

    heartbeat_s: Seconds = 15
    write_deadline_s: Seconds = 15
    lag_merge_bytes: Bytes = 256 * 1024
    lag_merge_s: Seconds = 2
    lag_abort_bytes: Bytes = 1024**2
    connection_age_s: Seconds = 600
    hold_s: Seconds = 50
    retry_ms: int = Field(600, ge=100, le=600_000)
    away_retry_min_ms: int = Field(500, ge=0, le=600_000)
    away_retry_max_ms: int = Field(2500, ge=1, le=600_000)


class Drain(Section):
    """Going away."""

    limit_s: float = Field(30, ge=0, le=86_400)
    notice_s: float = Field(0, ge=0, le=600)
    send_viewers_away: bool = True


class Redis(Section):
    """The store that processes share; in use as soon as a URL is set."""

    url: Annotated[SecretStr, AfterValidator(_redis_url)] = SecretStr("")
    prefix: str = Field("ssegw", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    flush_ms: int = Field(150, ge=10, le=1000)
    command_s: float = Field(0.5, gt=0, le=1)
    lease_s: float = Field(1.5, ge=0.5, le=60)
    when_away: Literal["accept", "refuse"] = "accept"
    probe_host: str = ""
    probe_port: int = Field(0, ge=0, le=65535)

    @property
    def configured(self) -> bool:
        """Whether streams are shared."""
        return bool(self.url.get_secret_value())


class OpenAI(Section):
    """The OpenAI-compatible upstream; in use as soon as a key or a base URL is set."""

    api_key: Annotated[SecretStr, AfterValidator(_header_value)] = SecretStr("")
    base_url: Annotated[str, AfterValidator(_http_url)] = ""
    model: str = "gpt-4o-mini"
    models: list[str] = []
    connect_s: Seconds = 5
    max_connections: Count = 10_000
    keepalive_s: Seconds = 60
    max_event_bytes: Bytes = 256 * 1024
    continue_models: list[str] = []
    continue_style: Literal["plain", "vllm", "prefix"] = "plain"
    continue_max: int = Field(1, ge=1, le=10)

    @property
    def configured(self) -> bool:
        """Whether this source was asked for."""
        return bool(self.base_url or self.api_key.get_secret_value())


class Local(Section):
    """The built-in source, which answers from the gateway's own documents."""

    first_token_ms: float = Field(300, ge=0, le=600_000)
    tokens_per_s: float = Field(40, ge=0, le=1_000_000)
    documents: list[str] = ["README.md", "docs"]


class Tenants(Section):
    """Who may ask."""

    file: str = ""


class Limits(Section):
    """How much each may ask, where its tenant does not say. 0 is no limit."""

    requests_per_ip: Limit = 30
    requests_per_session: Limit = 10
    requests_per_user: Limit = 0
    requests_global: Limit = 0
    open_requests_per_ip: Limit = 0
    window_s: float = Field(60, ge=0.1, le=86_400)
    concurrent_per_client: Limit = 10
    concurrent_global: Limit = 0
    tokens_per_day_global: int = Field(0, ge=0, le=10**15)
    lease_s: float = Field(20, ge=1, le=25)
    allow_networks: Annotated[list[str], AfterValidator(_networks)] = []
    ietf_headers: bool = True


class Queue(Section):
    """Streams that run at once in this process, and questions that wait for their turn."""

    slots: int = Field(0, ge=0, le=10_000_000)
    max_waiting: int = Field(100, ge=0, le=100_000)
    patience_s: Seconds = 30
    premium_run: Count = 4


class Input(Section):
    """What a question may be."""

    max_chars: int = Field(400_000, ge=1, le=64 * 1024**3)
    max_messages: int = Field(1000, ge=1, le=10_000)


class Output(Section):
    """How long an answer may become; it ends at the end of a sentence before the first of these. 0 is no bound."""

    max_words: int = Field(1000, ge=0, le=10_000_000)
    max_tokens: int = Field(0, ge=0, le=10_000_000)
    max_bytes: int = Field(0, ge=0, le=64 * 1024**3)
    max_s: float = Field(0, ge=0, le=86_400)


class Sessions(Section):
    """The memory of conversations, and what users like."""

    ttl_s: float = Field(86_400, gt=0, le=31 * 86_400)
    max_sessions: Count = 10_000
    max_turns: int = Field(50, ge=1, le=1000)
    max_bytes: Bytes = 64 * 1024
    memory_bytes: Bytes = 64 * 1024**2
    context_tokens: int = Field(2000, ge=0, le=1_000_000)
    preferences_ttl_s: float = Field(90 * 86_400, gt=0, le=400 * 86_400)
    preferences_max: Count = 100_000


class Flags(Section):
    """Who gets streams at all, changed while the gateway runs, and when that is taken back."""

    file: str = ""
    poll_ms: int = Field(300, ge=50, le=1000)
    window_s: float = Field(300, ge=3, le=86_400)
    min_streams: Count = 100
    error_rate: float = Field(0.02, ge=0, le=1)
    first_token_p99_s: float = Field(0, ge=0, le=86_400)
    total_p99_s: float = Field(0, ge=0, le=86_400)
    cost_multiple: float = Field(0, ge=0, le=1000)
    projected_cost_per_stream: float = Field(0, ge=0, le=1_000_000)
    price_per_1k_prompt: float = Field(0, ge=0, le=1_000_000)
    price_per_1k_completion: float = Field(0, ge=0, le=1_000_000)
    min_rating: float = Field(0, ge=0, le=5)
    min_ratings: Count = 20
    rollback_to: Literal["zero", "previous"] = "zero"


class Admin(Section):
    """The operator's own listener; there is none until a port or a unix socket is set."""

    host: Annotated[str, AfterValidator(_loopback)] = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    uds: str = ""
    token: Annotated[SecretStr, AfterValidator(_header_value)] = SecretStr("")

    @property
    def configured(self) -> bool:
        """Whether there is such a listener."""
        return bool(self.port or self.uds)


class Webhooks(Section):
    """What is told to other systems."""

    url: str = ""
    secrets: list[SecretStr] = []
    events: list[str] = []
    attempts: int = Field(6, ge=1, le=50)
    timeout_s: Seconds = 10
    max_waiting: Count = 1000
    allow_networks: list[str] = []
    drain_s: float = Field(5, ge=0, le=600)


class Logs(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    """All of them."""

    server: Server = Server()
    stream: Stream = Stream()
    delivery: Delivery = Delivery()
    drain: Drain = Drain()
    redis: Redis = Redis()
    openai: OpenAI = OpenAI()
    local: Local = Local()
    tenants: Tenants = Tenants()
    limits: Limits = Limits()
    queue: Queue = Queue()
    input: Input = Input()
    output: Output = Output()
    sessions: Sessions = Sessions()
    flags: Flags = Flags()
    admin: Admin = Admin()
    webhooks: Webhooks = Webhooks()
    logs: Logs = Logs()

    ALIASES: ClassVar[dict[str, tuple[str, str, float]]] = {
        "OPENAI_API_KEY": ("openai", "api_key", 0),
        "OPENAI_BASE_URL": ("openai", "base_url", 0),
        "REDIS_URL": ("redis", "url", 0),
        "STREAMING_ENABLED": ("stream", "enabled", 0),
        "STREAMING_RATE_LIMIT": ("limits", "requests_per_ip", 0),
        "STREAMING_TIMEOUT": ("stream", "total_s", 1000),
        "STREAMING_WINDOW_MS": ("limits", "window_s", 1000),
    }
    """Other people's names: section, setting, and what a number is divided by (milliseconds to seconds)."""

    ALSO: ClassVar[dict[str, tuple[str, str, float]]] = {
        "STREAMING_RATE_LIMIT": ("limits", "open_requests_per_ip", 0),
    }
    """What some of them set besides."""


NOT_YET = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GCP_PROJECT_ID",
    "STREAMING_CHUNK_SIZE",
    "CIRCUIT_BREAKER_THRESHOLD",
    "CIRCUIT_BREAKER_TIMEOUT",
    "CIRCUIT_BREAKER_RESET_TIMEOUT",
)
"""Names that this version hears and cannot act on; `serve` and `check` say so."""


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from `path` (none: all defaults) and the environment. Raises `SettingsError`, naming the setting."""
    values = _from_file(path) if path is not None else {}
    sources: dict[str, str] = {}
    _apply_aliases(values, environment, sources)
    _apply_environment(values, environment, sources)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path, sources)) from None
    if settings.delivery.away_retry_min_ms > settings.delivery.away_retry_max_ms:
        raise SettingsError("delivery.away_retry_min_ms is larger than delivery.away_retry_max_ms")
    if settings.openai.models and settings.openai.model not in settings.openai.models:
        raise SettingsError("openai.model is not one of openai.models")
    if settings.admin.configured and len(settings.admin.token.get_secret_value()) < ADMIN_TOKEN_MIN:
        raise SettingsError(f"admin.token must have at least {ADMIN_TOKEN_MIN} characters, since the listener is on")
    return settings


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None


def _apply_aliases(values: dict[str, Any], environment: Mapping[str, str], sources: dict[str, str]) -> None:
    for alias, (section, name, divisor) in (*Settings.ALIASES.items(), *Settings.ALSO.items()):
        text = environment.get(alias)
        if not text or f"{PREFIX}{section}__{name}".upper() in environment:
            continue
        value: Any = text
        if divisor:
            try:
                value = float(text) / divisor
            except ValueError:
                raise SettingsError(f"{alias}: must be a number of milliseconds") from None
        _table(values, section)[name] = value
        sources[f"{section}.{name}"] = alias


def _apply_environment(values: dict[str, Any], environment: Mapping[str, str], sources: dict[str, str]) -> None:
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        section, _, name = variable.removeprefix(PREFIX).lower().partition("__")
        field = Settings.model_fields.get(section)
        known: dict[str, Any] = getattr(field.annotation, "model_fields", {}) if field is not None else {}
        if name not in known:
            raise SettingsError(f"{variable}: there is no such setting{_nearest(section, known)}")
        is_list = get_origin(known[name].annotation) is list
        _table(values, section)[name] = _items(text) if is_list else text
        sources[f"{section}.{name}"] = variable


def _table(values: dict[str, Any], section: str) -> dict[str, Any]:
    table = values.setdefault(section, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{section}: must be a table")
    return table


def _items(text: str) -> list[str]:
    """A list in one variable: JSON, or words between commas."""
    if text.lstrip().startswith("["):
        try:
            return TypeAdapter(list[str]).validate_json(text)
        except ValidationError:
            return [text]
    return [item.strip() for item in text.split(",") if item.strip()]


def _nearest(section: str, known: Mapping[str, Any]) -> str:
    if known:
        return f"; [{section}] has: {', '.join(sorted(known))}"
    return f"; sections are: {', '.join(sorted(Settings.model_fields))}"


def _explain(error: ValidationError, path: Path | None, sources: Mapping[str, str]) -> str:
    """One line for each wrong setting: where it came from, its name, what is allowed. Never its value."""
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(map(str, item["loc"]))
        where = sources.get(".".join(map(str, item["loc"][:2])), str(path) if path else "defaults")
        message = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{where}: {name}: {message.removeprefix('Value error, ')}")
    return "\n".join(lines)
