"""The admin listener: what an operator can see and change, and with which words the rest is refused."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app.house import Gateway
from gateway.settings import SettingsError, load
from tests.house import house, see
from tests.operators import TOKEN, Operator, admin

FLAG = "/admin/flags/streaming"
LAST = "9999-12-31T23:59:59-14:00"


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, Operator]]:
    """One with its operator."""
    port, settings = admin()
    async with house(**settings) as gateway, aiohttp.ClientSession() as web:
        yield gateway, Operator(web, port)


@pytest.fixture
def operator(gateway: tuple[Gateway, Operator]) -> Operator:
    """Its operator alone."""
    return gateway[1]


async def test_an_operator_sees_and_changes_a_flag(operator: Operator) -> None:
    """The answer is the flag as it is in force now, with its version."""
    assert (await operator.ask("GET", "/admin/flags")).json()["flags"][0]["name"] == "streaming"
    seen = await operator.ask("PATCH", FLAG, json={"percent": 5, "tenants": ["internal"]})
    assert seen.headers["ETag"] == '"1"'
    assert seen.headers["Cache-Control"] == "no-store"
    flag = seen.json()
    assert (flag["percent"], flag["percent_now"], flag["tenants"], flag["version"]) == (5, 5, ["internal"], 1)
    assert await operator.flag() == flag
    changes = (await operator.ask("GET", f"{FLAG}/audit")).json()["changes"]
    assert [(change["actor"], change["before"]["percent"]) for change in changes] == [("anna", 100)]


async def test_a_change_is_in_force_with_the_next_request(gateway: tuple[Gateway, Operator]) -> None:
    """Off and on again, without a restart."""
    house, operator = gateway
    async with aiohttp.ClientSession() as web:
        for change, status in (({"enabled": False}, 503), ({"enabled": True}, 200), ({"percent": 0}, 503)):
            await operator.change(**change)
            seen = await see(web, "POST", f"{house.urls[0]}/stream", json={"query": "hi"})
            assert seen.status == status
        assert seen.json()["code"] == "STREAMING_DISABLED"
        assert "Accept: application/json" in seen.json()["message"]
        said = {"model": "local", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        seen = await see(web, "POST", f"{house.urls[0]}/v1/chat/completions", json=said)
        assert (seen.status, seen.json()["error"]["code"]) == (503, "STREAMING_DISABLED")


async def test_an_arm_of_an_experiment_answers_by_its_own_model_and_is_told_to_the_client(
    gateway: tuple[Gateway, Operator],
) -> None:
    """In the header and in the figures; who prefers no metadata is not told."""
    house, operator = gateway
    await operator.change(variants={"small": {"weight": 1, "model": "local"}})
    async with aiohttp.ClientSession() as web:
        url = f"{house.urls[0]}/stream"
        seen = await see(web, "POST", url, json={"query": "hi"})
        assert (seen.status, seen.headers["X-Variant"]) == (200, "small")
        quiet = await see(web, "POST", url, json={"query": "hi", "preferences": {"metadata": False}})
        assert quiet.status == 200
        assert "X-Variant" not in quiet.headers
        figures = (await see(web, "GET", f"{house.urls[0]}/metrics")).body.decode()
        assert 'ssegw_variant_outcomes_total{outcome="ok",variant="small"} 2.0' in figures


async def test_with_if_match_only_that_version_is_changed(operator: Operator) -> None:
    """412 for whoever looked at an older one."""
    assert (await operator.ask("PATCH", FLAG, {"If-Match": '"0"'}, json={"percent": 5})).status == 200
    seen = await operator.ask("PATCH", FLAG, {"If-Match": '"0"'}, json={"percent": 10})
    assert (seen.status, seen.json()["code"], seen.json()["field"]) == (412, "INVALID_REQUEST", "If-Match")
    assert (await operator.ask("PATCH", FLAG, {"If-Match": "*"}, json={"percent": 10})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "code", "field"),
    [
        ("GET", "/admin/flags", {"Authorization": ""}, None, 401, "UNAUTHENTICATED", None),
        ("GET", "/admin/flags", {"Authorization": "Bearer wrong"}, None, 401, "UNAUTHENTICATED", None),
        ("GET", "/admin/flags", {"Authorization": f"Basic {TOKEN}"}, None, 401, "UNAUTHENTICATED", None),
        ("GET", "/admin/nothing", {"Authorization": ""}, None, 401, "UNAUTHENTICATED", None),
        ("GET", "/admin/nothing", {}, None, 404, "NOT_FOUND", None),
        ("GET", "/admin/flags/flying", {}, None, 404, "NOT_FOUND", None),
        ("GET", "/admin/flags/flying/audit", {}, None, 404, "NOT_FOUND", None),
        ("POST", "/admin/flags", {}, {}, 405, "METHOD_NOT_ALLOWED", None),
        ("PATCH", FLAG, {"X-Actor": ""}, {}, 400, "INVALID_REQUEST", "X-Actor"),
        ("PATCH", FLAG, {"X-Actor": "a" * 65}, {}, 400, "INVALID_REQUEST", "X-Actor"),
        ("PATCH", FLAG, {"X-Actor": "anna\t"}, {}, 200, None, None),
        ("PATCH", FLAG, {"X-Actor": "an\tna"}, {}, 400, "INVALID_REQUEST", "X-Actor"),
        ("PATCH", FLAG, {"If-Match": "latest"}, {}, 400, "INVALID_REQUEST", "If-Match"),
        ("PATCH", FLAG, {}, {"percent": 101}, 400, "INVALID_REQUEST", "percent"),
        ("PATCH", FLAG, {}, {"wings": 2}, 400, "INVALID_REQUEST", None),
        ("PATCH", FLAG, {}, {"steps": [{"at": "+999999999d", "percent": 5}]}, 400, "INVALID_REQUEST", "steps"),
        ("PATCH", FLAG, {}, {"steps": [{"at": LAST, "percent": 5}]}, 400, "INVALID_REQUEST", "steps"),
        ("PATCH", FLAG, {}, [], 400, "INVALID_JSON", None),
        ("PATCH", "/admin/flags/flying", {}, {}, 404, "NOT_FOUND", None),
        ("POST", "/admin/tenants/reload", {"X-Actor": ""}, {}, 400, "INVALID_REQUEST", "X-Actor"),
        ("GET", "/admin/tenants/reload", {}, None, 405, "METHOD_NOT_ALLOWED", None),
    ],
)
async def test_what_is_refused(
    operator: Operator, method: str, path: str, headers: dict[str, str], body: Any, status: int, code: str, field: str
) -> None:
    """In the native shape, with a code; and without a change."""
    seen = await operator.ask(method, path, headers, json=body)
    assert seen.status == status
    if status != 200:
        assert (seen.json()["code"], seen.json().get("field")) == (code, field)
        assert TOKEN not in seen.body.decode()
    if status == 401:
        assert seen.headers["WWW-Authenticate"] == "Bearer"
    assert (await operator.flag())["version"] == 0


async def test_tenants_are_read_again_or_left_as_they_are(tmp_path: Path) -> None:
    """A file that is wrong changes nothing, and the operator is told what is wrong with it."""
    path = tmp_path / "tenants.toml"
    path.write_text('[tenants.acme]\npriority = "premium"\n')
    port, settings = admin()
    async with house(GATEWAY_TENANTS__FILE=str(path), **settings) as gateway, aiohttp.ClientSession() as web:
        operator = Operator(web, port)
        path.write_text('[tenants.acme]\npriority = "standard"\n[tenants.beta]\n')
        seen = await operator.ask("POST", "/admin/tenants/reload")
        assert (seen.status, seen.json()) == (200, {"reloaded": True})
        assert len(gateway.tenants.now) == 2
        path.write_text("[tenants.acme\n")
        seen = await operator.ask("POST", "/admin/tenants/reload")
        assert (seen.status, seen.json()["code"]) == (400, "INVALID_REQUEST")
        assert "tenants.toml" in seen.json()["message"]
        assert len(gateway.tenants.now) == 2


async def test_a_body_that_is_too_large_is_413(operator: Operator) -> None:
    """It is not even read to its end."""
    seen = await operator.ask("PATCH", FLAG, json={"tenants": ["a" * 300_000]})
    assert (seen.status, seen.json()["code"]) == (413, "BODY_TOO_LARGE")


async def test_it_can_stand_on_a_unix_socket(tmp_path: Path) -> None:
    """Then its permissions say who comes near it."""
    path = tmp_path / "admin.sock"
    async with house(GATEWAY_ADMIN__UDS=str(path), GATEWAY_ADMIN__TOKEN=TOKEN):
        assert path.stat().st_mode & 0o007 == 0
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as web:
            seen = await see(web, "GET", "http://admin/admin/flags", headers={"Authorization": f"Bearer {TOKEN}"})
            assert seen.status == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GATEWAY_ADMIN__PORT": "9901"}, "admin.token"),
        ({"GATEWAY_ADMIN__PORT": "9901", "GATEWAY_ADMIN__TOKEN": "a" * 15}, "admin.token"),
        ({"GATEWAY_ADMIN__UDS": "/run/x.sock"}, "admin.token"),
        ({"GATEWAY_ADMIN__HOST": "0.0.0.0"}, "admin.host"),
        ({"GATEWAY_ADMIN__HOST": "192.0.2.1"}, "admin.host"),
        ({"GATEWAY_ADMIN__HOST": "example.org"}, "admin.host"),
        ({"GATEWAY_FLAGS__FILE": "/nowhere/flags.toml"}, "flags.file"),
    ],
)
async def test_settings_that_would_open_it_to_others_stop_the_start(settings: dict[str, str], said: str) -> None:
    """Loopback alone, and with a token that nobody guesses; the message does not repeat the token."""
    with pytest.raises(SettingsError, match=said) as wrong:
        Gateway(load(None, settings))
    assert "a" * 15 not in str(wrong.value)
