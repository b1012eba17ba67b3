"""Long answers end to end: cut at a sentence, said so in both dialects, and nothing more is made of them upstream."""

import time

import aiohttp

from gateway.settings import Settings
from tests.house import house, see
from tests.journeys.asking import ask_all, choices, openai_text
from tests.upstream import HEAD, Step, answer, chunked, upstream

SENTENCE = "This sentence has exactly seven words here. "
ENDLESS: list[Step] = [HEAD, *(chunked(event) for event in answer([SENTENCE] * 200)[:-2]), "hang"]
WHOLE = (SENTENCE * 142).rstrip()
LONG = {"GATEWAY_OUTPUT__MAX_WORDS": "1000"}


async def test_a_long_answer_ends_at_a_sentence_in_every_way_of_asking() -> None:
    """A warning, `length`, and an estimate of the usage; its upstream is closed within a second."""
    async with upstream(ENDLESS) as service, house(OPENAI_BASE_URL=service.url, **LONG) as gateway:
        native, openai, whole = await ask_all(gateway)
        done = time.monotonic()
        assert native.text == openai_text(openai) == whole.json()["choices"][0]["message"]["content"] == WHOLE
        (warning,) = native.data("warning")
        assert (warning["code"], warning["words"], warning["limit"]) == ("TRUNCATED", 994, 1000)
        (end,) = native.data("complete")
        assert (end["status"], end["finish_reason"], end["usage"]["reported"]) == ("completed", "length", False)
        assert choices(openai)[-1]["finish_reason"] == whole.json()["choices"][0]["finish_reason"] == "length"
        assert openai.events[-1].data == "[DONE]"
        assert whole.json()["usage"]["completion_tokens"] == len(WHOLE) // 4
        closed = [await call.wait_closed(1) for call in service.calls]
        assert len(closed) == 3
        assert max(closed) - done < 1


async def test_the_default_is_a_thousand_words() -> None:
    """Of the plain answer too, which says so."""
    assert Settings().output.max_words == 1000
    async with (
        upstream(ENDLESS) as service,
        house(OPENAI_BASE_URL=service.url, **LONG) as gateway,
        aiohttp.ClientSession(gateway.urls[0], headers={"Accept": "application/json"}) as session,
    ):
        body = (await see(session, "POST", "/stream", json={"query": "hi", "model": "up-1"})).json()
    assert (body["text"], body["finish_reason"], body["warnings"][0]["code"]) == (WHOLE, "length", "TRUNCATED")
