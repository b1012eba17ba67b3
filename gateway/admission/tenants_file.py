"""The tenants file: TOML, strict, and checked as a whole before anything of it counts."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from gateway.admission.keys import parse_digest
from gateway.admission.origins import check_origin
from gateway.admission.tenant import Features, Limits, Tenant, WebhookTarget
from gateway.request import Caps, Preferences

if TYPE_CHECKING:
    from gateway.admission.tokens import TokenRule

ENVIRONMENT = "env:"
"""Before the name of an environment variable, where a secret may stand."""

FILE_MAX_BYTES = 16 * 1024**2

NAME = "[A-Za-z0-9_-]{1,64}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Digest = Annotated[str, AfterValidator(parse_digest)]
Origin = Annotated[str, AfterValidator(check_origin)]
Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class TenantsError(Exception):
    """The tenants file is not usable; the message names the place in it and says what is allowed, never a value."""


class _Table(BaseModel):
    """A table of the file. A name that is not known is an error, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Key(_Table):
    """A key, named so that people know it again; or its digest alone."""

    hash: Digest
    name: Name | None = None


def _named(value: Any) -> Any:
    return {"hash": value} if isinstance(value, str) else value


class _Features(_Table):
    streaming: bool = True
    streaming_percent: float = Field(100.0, ge=0, le=100)
    voice: bool = True
    models: list[Text] = []
    dialects: list[Text] = []


class _Limits(_Table):
    window_s: Annotated[float, Field(ge=0.1, le=86_400)] = 60.0
    requests: Count = 0
    requests_per_user: Count = 0
    requests_per_session: Count = 0
    requests_per_ip: Count = 0
    concurrent: Count = 0
    concurrent_per_client: Count = 0
    tokens_per_day: Count = 0
    max_input_chars: Count = 0
    max_messages: Count = 0


UNBOUNDED = 10**12
"""More words, tokens, bytes or seconds than an answer has."""


class _Caps(_Table):
    words: Count = 0
    tokens: Count = 0
    bytes: Count = 0
    seconds: Seconds = 0.0


class _Preferences(_Table):
    updates: Literal["", "realtime", "batched"] = ""
    response: Literal["", "detailed", "concise"] = ""
    metadata: bool | None = None


class _Jwt(_Table):
    issuer: Text
    audience: Text
    algorithms: list[Algorithm] = Field(min_length=1)
    key: SecretStr | None = None
    keys: dict[Text, SecretStr] = {}
    user_claim: Text = "sub"
    session_claim: str = ""
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 30.0


class _Webhook(_Table):
    url: Text
    secrets: list[SecretStr] = Field(min_length=1, max_length=5)
    events: list[Text] = []


class _Tenant(_Table):
    keys: list[Annotated[_Key, BeforeValidator(_named)]] = []
    public_hash: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,128}$")] | None = None
    origins: list[Origin] = []
    priority: Literal["premium", "standard", "background"] = "standard"
    features: _Features = _Features()
    limits: _Limits = _Limits()
    caps: _Caps | None = None
    preferences: _Preferences | None = None
    jwt: _Jwt | None = None
    webhook: _Webhook | None = None


class _File(_Table):
    tenants: dict[Name, _Tenant] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tenant, and by what its callers are known."""

    tenant: Tenant
    digests: tuple[str, ...] = ()
    public_hash: str = ""
    tokens: "TokenRule | None" = None
    has_secrets: bool = False
    """Whether something stands in the file itself that nobody else should read; digests and `env:` names are not."""


def load_tenants(
    path: Path, environment: Mapping[str, str] = os.environ, limits: Limits | None = None
) -> tuple[Entry, ...]:
    """The tenants in `path`; `limits` holds where a tenant does not say. Raises `TenantsError`."""
    try:
        file = _File.model_validate(_parsed(path))
    except ValidationError as error:
        raise TenantsError(_explain(error)) from None
    try:
        return tuple(_entry(name, table, environment, limits or Limits()) for name, table in file.tenants.items())
    except ValueError as error:
        raise TenantsError(str(error)) from None


def is_world_readable(path: Path) -> bool:
    """Whether everybody on this machine can read it."""
    try:
        return bool(path.stat().st_mode & 0o004)
    except OSError:
        return False


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
        if len(data) > FILE_MAX_BYTES:
            raise TenantsError(f"larger than {FILE_MAX_BYTES} bytes")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise TenantsError(f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise TenantsError("not valid UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # Of tomllib's words only the place: they may repeat what stands there.
        place = str(error).rpartition("(")[2].rstrip(")") if "(at " in str(error) else ""
        raise TenantsError(f"not valid TOML{f', {place}' if place else ''}") from None


def _caps(table: _Caps) -> Caps:
    """What is left out there is as the gateway's own; a 0 that is written down is no bound at all."""
    said = table.model_dump(exclude_unset=True)
    return Caps(**{name: value or UNBOUNDED for name, value in said.items()})


def _entry(name: str, table: _Tenant, environment: Mapping[str, str], limits: Limits) -> Entry:
    """One tenant. Raises ValueError, with the dotted key of what is wrong."""
    where = f"tenants.{name}"
    if table.public_hash is not None and not table.origins:
        raise ValueError(f"{where}.public_hash: needs origins, the pages that may use it")
    given = table.features
    features = Features(
        given.streaming, given.streaming_percent, given.voice, tuple(given.models), tuple(given.dialects)
    )
    tenant = Tenant(
        name,
        features=features,
        limits=replace(limits, **table.limits.model_dump(exclude_unset=True)),
        priority=table.priority,
        caps=_caps(table.caps) if table.caps is not None else None,
        preferences=Preferences(**table.preferences.model_dump()) if table.preferences is not None else None,
        origins=tuple(table.origins),
        webhook=_webhook(f"{where}.webhook", table.webhook, environment) if table.webhook is not None else None,
    )
    tokens = _token_rule(f"{where}.jwt", table.jwt, environment) if table.jwt is not None else None
    return Entry(
        tenant, tuple(key.hash for key in table.keys), table.public_hash or "", tokens, has_secrets=_has_secrets(table)
    )


def _has_secrets(table: _Tenant) -> bool:
    given = list(table.webhook.secrets) if table.webhook is not None else []
    if table.jwt is not None and table.jwt.algorithms[0].startswith("HS"):
        given += [*table.jwt.keys.values(), *([table.jwt.key] if table.jwt.key is not None else [])]
    return not all(secret.get_secret_value().startswith(ENVIRONMENT) for secret in given)


def _webhook(where: str, table: _Webhook, environment: Mapping[str, str]) -> WebhookTarget:
    secrets = tuple(
        SecretStr(_secret(f"{where}.secrets.{number}", secret, environment))
        for number, secret in enumerate(table.secrets)
    )
    return WebhookTarget(table.url, secrets, tuple(table.events))


def _token_rule(where: str, table: _Jwt, environment: Mapping[str, str]) -> "TokenRule":
    # Cryptography is 9 MB of memory in each process: for those who use it.
    from gateway.admission.tokens import Key, TokenRule, parse_key

    if (table.key is None) == (not table.keys):
        raise ValueError(f"{where}: exactly one of key and keys is needed")
    if len({name.startswith("HS") for name in table.algorithms}) != 1:
        raise ValueError(f"{where}.algorithms: secrets (HS…) and public keys cannot be mixed")
    given = table.keys if table.key is None else {"": table.key}
    keys: dict[str, Key] = {}
    for kid, secret in given.items():
        # The name of a key is chosen elsewhere and may be long; its number says as well which one it is.
        place = f"{where}.keys.{len(keys)}" if kid else f"{where}.key"
        try:
            keys[kid] = parse_key(_secret(place, secret, environment), tuple(table.algorithms))
        except ValueError as error:
            raise ValueError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None
    return TokenRule(
        table.issuer,
        table.audience,
        keys,
        user_claim=table.user_claim,
        session_claim=table.session_claim,
        leeway_s=table.leeway_s,
    )


def _secret(where: str, given: SecretStr, environment: Mapping[str, str]) -> str:
    """The secret itself, from the environment where its name stands for it."""
    text = given.get_secret_value()
    if text.startswith(ENVIRONMENT):
        text = environment.get(text.removeprefix(ENVIRONMENT), "")
        if not text:
            raise ValueError(f"{where}: the environment variable that it names is not set")
    if not text:
        raise ValueError(f"{where}: must not be empty")
    return text


def _explain(error: ValidationError) -> str:
    """One line for each wrong setting: its dotted key and what is allowed. Never its value."""
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(map(str, item["loc"]))
        message = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{name}: {message.removeprefix('Value error, ')}")
    return "\n".join(lines)
