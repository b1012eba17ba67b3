"""What reaches the upstream: the caller's question and parameters, the house's own credentials, and nothing besides."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.house import free_port, house, see
from tests.journeys.asking import COMPLETION, QUESTION
from tests.tenancy import ACME_KEY, RIVAL_KEY, TWO, bearer, write
from tests.upstream import Call, upstream

USAGE = {"stream_options": {"include_usage": True}}


async def asked(path: str, body: dict[str, Any], **headers: str) -> Call:
    """The call that this request makes of the upstream."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url, OPENAI_API_KEY="house-key") as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        assert (await see(session, "POST", path, json=body, headers=headers)).status == 200
    return service.calls[0]


async def test_the_callers_credentials_stay_here() -> None:
    """The upstream knows the house, and hears nothing of who asks it, nor of an encoding we could not bound."""
    private = {"Authorization": "Bearer caller-key", "Cookie": "caller-cookie", "X-User-Id": "caller-alice"}
    call = await asked("/stream", {**QUESTION, "session_id": "caller-session"}, **private)
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer house-key"
    assert call.headers["accept-encoding"] == "identity"
    assert "caller" not in str(call.headers) + str(call.body)


async def test_a_native_question_becomes_messages() -> None:
    """With the two parameters that it may have, and always a wish for usage."""
    call = await asked("/stream", {**QUESTION, "max_tokens": 9, "temperature": 0.5, "metadata": {"a": 1}})
    messages = [{"role": "user", "content": "hi"}]
    expected = {"model": "up-1", "messages": messages, "stream": True, "max_tokens": 9, "temperature": 0.5, **USAGE}
    assert call.body == expected


@pytest.mark.parametrize("stream", [True, False])
async def test_an_openai_question_keeps_what_we_do_not_know(stream: bool) -> None:
    """Unknown parameters and keys of messages go on as they are; usage is wanted whatever the caller wants."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}], "odd": 1}]
    unknown = {"top_p": 0.1, "tools": [{"type": "function"}], "extra_headers": {"a": "b"}, "seed": None}
    known = {"max_completion_tokens": 7, "user": "u", "temperature": 0}
    options = {"stream_options": {"include_usage": False, "odd": 2}}
    body = {**COMPLETION, "messages": messages, "stream": stream, **unknown, **known, **options}
    call = await asked("/v1/chat/completions", body)
    wanted = {"stream_options": {"include_usage": True, "odd": 2}}
    assert call.body == {"model": "up-1", "messages": messages, "stream": True, **unknown, **known, **wanted}


@pytest.mark.parametrize("models", ["", "small,large"])
async def test_models_are_the_upstreams_or_those_of_the_house(models: str) -> None:
    """Where the house names some, only those may be asked for."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_OPENAI__MODEL="small", GATEWAY_OPENAI__MODELS=models) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        listed = (await see(session, "GET", "/v1/models")).json()
        other = await see(session, "POST", "/v1/chat/completions", json=COMPLETION)
    assert [model["id"] for model in listed["data"]] == (["small", "large"] if models else ["small", "up-1"])
    assert other.status == (404 if models else 200)


async def test_a_tenant_is_offered_the_models_that_it_may_use(tmp_path: Path) -> None:
    """Of those that are offered at all; one without a list is offered every one."""
    file = write(tmp_path, TWO + '[tenants.rival.features]\nmodels = ["large", "gone"]\n')
    async with (
        upstream() as service,
        house(
            OPENAI_BASE_URL=service.url,
            GATEWAY_OPENAI__MODEL="small",
            GATEWAY_OPENAI__MODELS="small,large",
            GATEWAY_TENANTS__FILE=str(file),
        ) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        for key, offered in ((ACME_KEY, ["small", "large"]), (RIVAL_KEY, ["large"])):
            listed = (await see(session, "GET", "/v1/models", headers=bearer(key))).json()
            assert [model["id"] for model in listed["data"]] == offered


async def test_an_upstream_that_is_away_shows_in_health_and_models() -> None:
    """Each in its own words, and soon."""
    async with (
        house(OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1") as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        listed = await see(session, "GET", "/v1/models")
        health = await see(session, "GET", "/health/streaming")
        ready = await see(session, "GET", "/health/ready")
    assert (listed.status, listed.json()["error"]["code"]) == (502, "UPSTREAM_UNAVAILABLE")
    assert (health.status, health.json()["dependencies"]["upstream"]["code"]) == (503, "UPSTREAM_UNAVAILABLE")
    assert ready.status == 200


@pytest.mark.parametrize(
    "models", [b"<html>", b"{}", b'{"data":null}', b"[1]", b'{"data":[{"name":"x"}]}', b'{"data":[7]}']
)
async def test_a_list_of_models_that_is_none_is_the_upstreams_fault(models: bytes) -> None:
    """Never a 500 of ours: a code for who asks, and an upstream that is away for who looks after it."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        service.models = models
        listed = await see(session, "GET", "/v1/models")
        health = await see(session, "GET", "/health/streaming")
    assert (listed.status, listed.json()["error"]["code"]) == (502, "UPSTREAM_PROTOCOL")
    assert (health.status, health.json()["dependencies"]["upstream"]["code"]) == (503, "UPSTREAM_PROTOCOL")
