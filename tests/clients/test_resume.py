"""Real clients whose connection is cut: each comes back in its own way; nothing comes twice, nothing is lost."""

import asyncio

import pytest

from tests.clients.conftest import EventSourceListener
from tests.clients.heard import Heard
from tests.clients.listeners import BY_HAND, fetch_event_source
from tests.clients.node import Node
from tests.cutter import cutter
from tests.house import eventually, house
from tests.upstream import answer, streamed, upstream

TOKENS = [f"word {number} " for number in range(40)]
TEXT = "".join(TOKENS)
GAP_S = 0.01
RETRY = {"GATEWAY_DELIVERY__RETRY_MS": "100"}
CUTS = [rb'"word 5 ', rb'"word 11 "}\nid: \w{20}', rb'"word 17 "}\nid: [\w-]+\n\n', rb'"word 22 ".*?event: te']
"""In the middle of data, of an id, between two events, and in a name. fetch-event-source alone has one weak byte: cut
between an id's line and the blank line, it goes on behind an event that it never had."""
EARLY = [rb"event: connec"]
"""Before there is an id to come back with."""


def assert_exact(heard: Heard) -> None:
    """Every event exactly once, and the whole text."""
    assert heard.text == TEXT
    assert heard.seqs == list(range(1, len(heard.seqs) + 1))
    assert heard.names.count("complete") == 1


async def test_an_event_source_comes_back_by_itself_and_has_the_exact_text(event_source: EventSourceListener) -> None:
    """Cut in mid-answer, by reset and by close: it returns with Last-Event-ID, and the upstream knows nothing of it."""
    async with (
        upstream(streamed(answer(TOKENS), GAP_S)) as service,
        house(OPENAI_BASE_URL=service.url, **RETRY) as gateway,
        cutter(gateway.urls[0], CUTS) as line,
    ):
        heard = await event_source(line.url)
        assert line.cut_count == len(CUTS)
        assert [bool(asked.last_event_id) for asked in line.streams] == [False, *[True] * len(CUTS)]
    assert_exact(heard)
    assert [line["readyState"] for line in heard.saw("lost")] == [0] * len(CUTS)
    resumed = [data["resumed"] for data in heard.data("connected")]
    assert not resumed[0]
    assert all(resumed[1:])
    assert len(service.calls) == 1


async def test_an_event_source_left_to_itself_gets_204_after_the_end_and_stops(
    event_source: EventSourceListener,
) -> None:
    """Cut once, then the application closes on nothing: one more request, answered 204, and no further one."""
    async with (
        upstream(streamed(answer(TOKENS))) as service,
        house(OPENAI_BASE_URL=service.url, **RETRY) as gateway,
        cutter(gateway.urls[0], CUTS[:1]) as line,
    ):
        heard = await event_source(line.url, close_on="")
        await asyncio.sleep(0.3)  # three times as long as it would take it to come back once more
        assert len(line.streams) == 3
        assert len(line.bodies) == 2
    assert_exact(heard)
    assert [line["readyState"] for line in heard.saw("lost")] == [0, 0, 2]
    assert len(service.calls) == 1


async def test_an_event_source_cut_before_its_first_id_does_not_ask_twice(event_source: EventSourceListener) -> None:
    """It has nothing to come back with but its URL: the idempotency key in it finds the same stream."""
    async with (
        upstream(streamed(answer(TOKENS), GAP_S)) as service,
        house(OPENAI_BASE_URL=service.url, **RETRY) as gateway,
        cutter(gateway.urls[0], EARLY) as line,
    ):
        heard = await event_source(line.url, query="query=hi&idempotency_key=k-1")
        assert [asked.last_event_id for asked in line.streams] == ["", ""]
    assert heard.text == TEXT
    assert heard.data("complete")[0]["status"] == "completed"
    assert len(service.calls) == 1


async def test_fetch_event_source_posts_again_and_the_upstream_is_asked_once() -> None:
    """It repeats the whole POST, with last-event-id: that is a resume, never a second generation."""
    async with (
        upstream(streamed(answer(TOKENS), GAP_S)) as service,
        house(OPENAI_BASE_URL=service.url, **RETRY) as gateway,
        cutter(gateway.urls[0], CUTS) as line,
    ):
        heard = await fetch_event_source(line.url)
        assert line.cut_count == len(CUTS)
        assert [asked.method for asked in line.streams] == ["POST"] * (len(CUTS) + 1)
        assert [bool(asked.last_event_id) for asked in line.streams] == [False, *[True] * len(CUTS)]
    assert_exact(heard)
    assert heard.failure is None
    assert len(service.calls) == 1


async def test_fetch_event_source_cut_before_its_first_id_does_not_ask_twice() -> None:
    """The `message_id` of its session finds the same stream."""
    async with (
        upstream(streamed(answer(TOKENS), GAP_S)) as service,
        house(OPENAI_BASE_URL=service.url, **RETRY) as gateway,
        cutter(gateway.urls[0], EARLY) as line,
    ):
        heard = await fetch_event_source(line.url, session_id="s-1", message_id="m-1")
        assert [asked.last_event_id for asked in line.streams] == ["", ""]
    assert heard.text == TEXT
    assert len(service.calls) == 1


@pytest.mark.parametrize("client", BY_HAND)
async def test_a_client_that_resumes_by_hand_has_the_exact_text(client: str) -> None:
    """httpx-sse and curl see that they were cut off; with the last id they get the rest, and then 204."""
    ask = BY_HAND[client]
    async with (
        upstream(streamed(answer(TOKENS), GAP_S)) as service,
        house(OPENAI_BASE_URL=service.url, **RETRY) as gateway,
        cutter(gateway.urls[0], CUTS[:2]) as line,
    ):
        so_far = await ask(line.url)
        failed = [so_far.failure is not None]
        for _ in range(2):
            heard = await ask(line.url, so_far)
            failed.append(heard.failure is not None)
            so_far.lines += heard.lines
        last = await ask(line.url, so_far)
    assert failed == [True, True, False]
    assert_exact(so_far)
    assert len({data["stream_id"] for data in so_far.data("connected")}) == 1
    assert (last.saw("open")[0]["status"], last.names, last.failure) == (204, [], None)
    assert len(service.calls) == 1


async def test_fetch_event_source_in_a_hidden_tab_goes_on_when_it_is_shown() -> None:
    """Hidden, it hangs up, which is not a cancel; shown again, it posts from where it was, and gets the rest."""
    heard = Heard()
    async with (
        upstream(streamed(answer(TOKENS), GAP_S)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        cutter(gateway.urls[0]) as line,
    ):
        node = Node("fetch-event-source.mjs", f"{line.url}/stream", '{"query":"hi"}', "7", take=heard.lines.append)
        try:
            await eventually(lambda: heard.names.count("text") == 7)
            await eventually(lambda: not line.open)
            assert service.calls[0].closed is None
            node.write(b"show")
            await eventually(lambda: heard.ended)
        finally:
            node.close()
        assert [bool(asked.last_event_id) for asked in line.streams] == [False, True]
    assert_exact(heard)
    assert len(service.calls) == 1
