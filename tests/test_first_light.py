"""The first thing that runs: a question, an answer, in both dialects."""

import aiohttp

from tests.house import house, see
from tests.upstream import upstream


async def test_native_stream_has_the_whole_answer_in_order() -> None:
    """Opened first, then text, then text_complete, complete and close."""
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway, aiohttp.ClientSession() as session:
        seen = await see(session, "POST", f"{gateway.urls[0]}/stream", json={"query": "hi"})
    assert seen.status == 200
    assert seen.text == "Hello world"
    assert seen.names == ["connected", "status", "metadata", "text", "text", "status", "complete", "close"]
    assert [int(event.id.rsplit("-", 1)[1]) for event in seen.logged] == [1, 2, 3, 4, 5, 6]
    assert service.calls[0].body["stream_options"] == {"include_usage": True}


async def test_openai_stream_ends_with_done() -> None:
    """Chunks without names or ids, then [DONE]."""
    body = {"model": "up-1", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway, aiohttp.ClientSession() as session:
        seen = await see(session, "POST", f"{gateway.urls[0]}/v1/chat/completions", json=body)
        plain = await see(session, "POST", f"{gateway.urls[0]}/v1/chat/completions", json={**body, "stream": False})
    assert seen.events[-1].data == "[DONE]"
    assert not any(event.id or event.event != "message" for event in seen.events)
    assert plain.json()["choices"][0]["message"]["content"] == "Hello world"
