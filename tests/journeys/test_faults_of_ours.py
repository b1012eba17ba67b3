"""A fault of the gateway itself: told as one, in the caller's dialect, with the id that finds it in the log."""

import logging

import aiohttp
import pytest

from gateway.request import StreamRequest
from tests.house import house, see
from tests.journeys.asking import COMPLETION, QUESTION


@pytest.mark.parametrize("query", ["", "?events=named"], ids=["by the shortcut", "by the router"])
async def test_a_handler_that_fails_is_a_500_that_can_be_found(query: str, caplog: pytest.LogCaptureFixture) -> None:
    """The same whichever way the request took; nothing of the fault is told to the client."""

    def fail(asked: StreamRequest) -> None:
        raise RuntimeError("secret")

    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        gateway.catalog.pipeline_for = fail  # type: ignore[method-assign, assignment]  # a fault of ours
        native = await see(session, "POST", f"/stream{query}", json=QUESTION)
        openai = await see(session, "POST", f"/v1/chat/completions{query}", json=COMPLETION)
    assert (native.status, native.json()["code"]) == (500, "INTERNAL")
    assert (openai.status, openai.json()["error"]["code"]) == (500, "INTERNAL")
    assert all(seen.headers["X-Request-Id"] and b"secret" not in seen.body for seen in (native, openai))
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in faults] == ["a handler failed"] * 2
    assert [vars(record)["route"] for record in faults] == ["/stream", "/v1/chat/completions"]
