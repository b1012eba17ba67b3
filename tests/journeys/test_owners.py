"""Whose stream it is: the id alone opens nothing, and what is over is over for its owner only."""

from typing import Any

import aiohttp
import pytest

from tests.house import eventually, house, see


async def refusal(session: aiohttp.ClientSession, method: str, sid: str, **headers: str) -> tuple[int, Any]:
    """Status and body but for the time of an answer that is none."""
    seen = await see(session, method, f"/stream/{sid}", headers=headers)
    return seen.status, {name: value for name, value in seen.json().items() if name != "timestamp"}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_somebody_elses_stream_is_as_unknown_as_one_that_never_was(method: str) -> None:
    """The id is no credential: a wrong user or session learns nothing, not even that the stream exists."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        for whose in ({"user_id": "alice"}, {"session_id": "s1"}):
            mine = await see(session, "POST", "/stream", json={"query": "hi", **whose})
            sid = mine.headers["X-Stream-Id"]
            unknown = await refusal(session, method, "0" * 22)
            assert (unknown[0], unknown[1]["code"]) == (404, "STREAM_NOT_FOUND")
            for stranger in ({}, {"X-User-Id": "bob"}, {"X-Session-Id": "s2"}, {"X-User-Id": "s1"}):
                assert await refusal(session, method, sid, **stranger) == unknown
            owner = {"X-User-Id": "alice"} if "user_id" in whose else {"X-Session-Id": "s1"}
            assert (await see(session, method, f"/stream/{sid}", headers=owner)).status == 200
            assert (await see(session, method, f"/stream/{sid}", params=whose)).status == 200


async def test_an_expired_stream_is_gone_for_its_owner_and_unknown_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """410 once its retention is over; everybody else hears 404 as before."""
    monkeypatch.setattr("gateway.app.house.SWEEP_S", 0.02)
    async with (
        house(GATEWAY_STREAM__RETENTION_S="0.05") as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        seen = await see(session, "POST", "/stream", json={"query": "hi", "user_id": "alice"})
        sid = seen.headers["X-Stream-Id"]
        await eventually(lambda: gateway._store.bytes_kept == 0)
        for method in ("GET", "DELETE"):
            status, body = await refusal(session, method, sid, **{"X-User-Id": "alice"})
            assert (status, body["code"], body["retryable"]) == (410, "STREAM_EXPIRED", False)
            assert await refusal(session, method, sid) == await refusal(session, method, "0" * 22)
