"""No secret leaves: a mark in every secret and in every prompt, and then a look at all that a process says."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import aiohttp
import orjson
from pydantic import SecretStr

from gateway.admission.keys import digest_of, new_key, written
from gateway.settings import Settings, load
from tests.house import FAST, Process, eventually, free_port, gateway_process, see
from tests.journeys.test_upstream_faults import FAULTS
from tests.receiver import LOOPBACK, Receiver, new_secret
from tests.tenancy import AUDIENCE, ISSUER, token
from tests.upstream import Call, Step, answer, streamed, upstream

SECRETS = {
    "redis.url": secrets.token_urlsafe(24),
    "openai.api_key": new_key(),
    "admin.token": secrets.token_urlsafe(32),
    "webhooks.secrets": new_secret(),
    "a tenant's key": new_key(),
    "a tenant's webhook": new_secret(),
    "a tenant's token key": secrets.token_urlsafe(32),
    "a key that is not good": new_key(),
}
PROMPTS = {
    name: f"{name}-{secrets.token_hex(8)}"
    for name in ("body", "query", "chat", "system", "refused", "plain", "fault", "field", "cookie", "path", "voice")
}
TENANTS = f"""
[tenants.acme]
keys = ["{written(digest_of(SECRETS["a tenant's key"]))}"]
[tenants.acme.jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithms = ["HS256"]
key = "{SECRETS["a tenant's token key"]}"
[tenants.acme.webhook]
url = "http://127.0.0.1:%d/hook"
secrets = ["{SECRETS["a tenant's webhook"]}"]
"""
BY_KEY = {"Authorization": "Bearer " + SECRETS["a tenant's key"]}
SIGNED = token(SECRETS["a tenant's token key"], "HS256", None)
BAD_TOKEN = token("another-secret-of-32-bytes-and-more", "HS256", None)


def holds_secret(annotation: Any) -> bool:
    """Whether a setting of this type is one."""
    return annotation is SecretStr or any(map(holds_secret, get_args(annotation)))


def test_every_secret_setting_is_marked() -> None:
    """So that the look below misses none that is added."""
    found = {
        f"{section}.{name}"
        for section, field in Settings.model_fields.items()
        for name, inner in field.annotation.model_fields.items()  # type: ignore[union-attr]  # each is a section
        if holds_secret(inner.annotation)
    }
    assert found == {name for name in SECRETS if "." in name}


def settings(folder: Path, upstream_url: str, receiver: Receiver) -> dict[str, Any]:
    """A process with every secret that there is; its store is away, and its tenant's receiver too."""
    tenants = folder / "tenants.toml"
    tenants.write_text(TENANTS % free_port())
    tenants.chmod(0o600)
    return {
        **FAST,
        "OPENAI_BASE_URL": upstream_url,
        "OPENAI_API_KEY": SECRETS["openai.api_key"],
        "REDIS_URL": f"redis://user:{SECRETS['redis.url']}@127.0.0.1:{free_port()}/0",
        "GATEWAY_ADMIN__PORT": str(free_port()),
        "GATEWAY_ADMIN__TOKEN": SECRETS["admin.token"],
        "GATEWAY_WEBHOOKS__URL": receiver.url,
        "GATEWAY_WEBHOOKS__SECRETS": SECRETS["webhooks.secrets"],
        "GATEWAY_WEBHOOKS__ALLOW_NETWORKS": LOOPBACK,
        "GATEWAY_WEBHOOKS__DRAIN_S": "0.1",
        "GATEWAY_TENANTS__FILE": str(tenants),
        "GATEWAY_STREAM__FIRST_TOKEN_S": "0.5",
        "GATEWAY_LOGS__LEVEL": "debug",
    }


def script(call: Call) -> list[Step]:
    """Good answers, and failures that repeat what they were told."""
    if PROMPTS["fault"] in str(call.body):
        return [*FAULTS["status 401"].steps[:1], orjson.dumps({"error": [call.body, call.headers]}), "fin"]
    if PROMPTS["chat"] in str(call.body):
        return ["headers", f"data: {orjson.dumps(call.body).decode()} nonsense\n\n".encode(), "fin"]
    return streamed(answer(["Hello", " world"]))


Ask = tuple[str, str, dict[str, Any]]


def questions() -> Iterator[Ask]:
    """Good ones and bad ones, in both dialects, by every credential."""
    body, system = {"query": PROMPTS["body"]}, {"role": "system", "content": PROMPTS["system"]}
    chat = {"model": "up-1", "messages": [system, {"role": "user", "content": PROMPTS["chat"]}]}
    for headers in (BY_KEY, {"X-API-Key": SECRETS["a tenant's key"]}, {"Authorization": f"Bearer {SIGNED}"}):
        yield "POST", "/stream", {"json": body, "headers": headers}
        yield "GET", "/stream", {"params": {"query": PROMPTS["query"]}, "headers": headers}
        yield "POST", "/v1/chat/completions", {"json": {**chat, "stream": True}, "headers": headers}
    yield "POST", "/v1/chat/completions", {"json": chat, "headers": BY_KEY}
    plainly = {**BY_KEY, "Accept": "application/json", "Cookie": f"c={PROMPTS['cookie']}"}
    yield "POST", "/stream", {"json": {"query": PROMPTS["plain"]}, "headers": plainly}
    yield "POST", "/stream", {"json": {"query": PROMPTS["fault"]}, "headers": BY_KEY}
    yield "POST", "/stream", {"json": {"query": PROMPTS["fault"]}, "headers": plainly}
    yield "POST", "/stream", {"json": {**body, PROMPTS["field"]: 1}, "headers": BY_KEY}
    yield "POST", "/stream", {"json": {**body, "voice": PROMPTS["voice"]}, "headers": BY_KEY}
    yield "POST", "/stream", {"data": PROMPTS["refused"], "headers": {**BY_KEY, "Content-Type": "application/json"}}
    yield "GET", f"/{PROMPTS['path']}", {"headers": BY_KEY}
    yield "GET", f"/stream/{PROMPTS['path']}", {"headers": BY_KEY}
    yield "GET", "/stream", {"params": {"api_key": SECRETS["a tenant's key"], "query": PROMPTS["query"]}}
    yield "GET", "/stream", {"params": {"ticket": SECRETS["a key that is not good"], "query": PROMPTS["query"]}}
    for wrong in (SECRETS["a key that is not good"], BAD_TOKEN, "ä" + SIGNED):
        yield "POST", "/stream", {"json": body, "headers": {"Authorization": f"Bearer {wrong}"}}
    for path in ("/openapi.json", "/docs", "/metrics", "/metrics/streaming", "/health/streaming", "/streams"):
        yield "GET", path, {"headers": {**BY_KEY, "X-User-Id": "alice"}}


async def test_no_mark_is_in_any_answer_log_metric_or_message(tmp_path: Path) -> None:
    """Of good requests and of bad ones, with an upstream that repeats what it was told and a store that is away."""
    said: list[str] = []
    async with upstream(script) as service, Receiver() as receiver:
        environment = settings(tmp_path, service.url, receiver)
        with gateway_process(**environment) as gateway:
            statuses = [await hear(gateway, *each, said=said) for each in questions()]
            statuses.append(await hear_operator(environment["GATEWAY_ADMIN__PORT"], said))
            await eventually(lambda: len(receiver.got) > 5)
        said += [str(delivery) for delivery in receiver.got]
        assert {200, 400, 401, 404} <= set(statuses)
        assert all(call.headers["authorization"].endswith(SECRETS["openai.api_key"]) for call in service.calls)
        assert all(PROMPTS[name] in str([call.body for call in service.calls]) for name in ("body", "query", "chat"))
    log = gateway.stderr.decode()
    assert log.count("stream opened") > 5
    marks = {**SECRETS, **PROMPTS, "a token": SIGNED, "a bad token": BAD_TOKEN}
    assert not [name for name, mark in marks.items() if mark in log]
    assert not [name for name, mark in marks.items() if mark in "".join(said)]


async def hear(gateway: Process, method: str, path: str, options: dict[str, Any], *, said: list[str]) -> int:
    """Ask, and keep all that is answered; its status."""
    async with aiohttp.ClientSession() as session:
        seen = await see(session, method, gateway.base + path, **options)
    said += [str(seen.headers), seen.body.decode(errors="replace")]
    return seen.status


async def hear_operator(port: str, said: list[str]) -> int:
    """What the operator's own listener says to it."""
    headers = {"Authorization": f"Bearer {SECRETS['admin.token']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        seen = await see(session, "GET", f"http://127.0.0.1:{port}/admin/flags")
    said.append(seen.body.decode())
    return seen.status


def test_settings_do_not_show_their_secrets(tmp_path: Path) -> None:
    """Neither in words nor as data."""
    environment = settings(tmp_path, "http://127.0.0.1:1/v1", Receiver())
    loaded = load(None, environment)
    shown = repr(loaded) + str(loaded.model_dump(mode="json"))
    assert not [name for name, mark in SECRETS.items() if mark in shown]
