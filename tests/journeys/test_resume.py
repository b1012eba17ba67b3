"""Coming back over real HTTP: from every event, in every way, to the identical rest; what is lost is said."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from gateway.sse import ServerEvent
from tests.house import Seen, house, see
from tests.journeys.asking import QUESTION, seqs
from tests.upstream import Step, answer, chunk, chunked, streamed, upstream

TOKENS = [f"{number} " for number in range(8)]
TEXT = "".join(TOKENS)
EVENTS = len(TOKENS) + 4
"""opened, metadata, the tokens, text_complete, complete."""

Way = Callable[[aiohttp.ClientSession, Seen, str], Any]


async def by_header(session: aiohttp.ClientSession, before: Seen, place: str) -> Seen:
    """`GET /stream/{sid}` as EventSource does."""
    return await see(session, "GET", before.headers["Location"], headers={"Last-Event-ID": place})


async def by_query(session: aiohttp.ClientSession, before: Seen, place: str) -> Seen:
    """`GET /stream/{sid}?last_event_id=…` for those who cannot set headers."""
    return await see(session, "GET", before.headers["Location"], params={"last_event_id": place})


async def by_get_again(session: aiohttp.ClientSession, before: Seen, place: str) -> Seen:
    """The question itself once more, as an EventSource that knows no other URL."""
    return await see(session, "GET", "/stream", params=QUESTION, headers={"Last-Event-ID": place})


async def by_post_again(session: aiohttp.ClientSession, before: Seen, place: str) -> Seen:
    """The original POST repeated, as fetch-event-source does."""
    return await see(session, "POST", "/stream", json=QUESTION, headers={"Last-Event-ID": place})


WAYS: list[Way] = [by_header, by_query, by_get_again, by_post_again]


def at(seen: Seen, seq: int, epoch: int = 1) -> str:
    """The id of a place in the stream that was seen."""
    return f"{seen.headers['X-Stream-Id']}-{epoch}-{seq}"


async def whole(session: aiohttp.ClientSession, seen: Seen) -> list[ServerEvent]:
    """The log of a stream, event by event from its beginning."""
    return (await by_header(session, seen, at(seen, 0))).logged


@pytest.mark.parametrize("way", WAYS)
async def test_a_reader_cut_anywhere_gets_the_identical_rest(way: Way) -> None:
    """A live stream, cut behind each of its events: nothing is missing, nothing comes twice, nothing is asked twice."""

    async def cut_and_return(index: int) -> None:
        before = await see(session, "POST", "/stream", json=QUESTION, upto=1 + index)
        after = await way(session, before, before.logged[-1].id)
        log = await whole(session, before)
        assert [int(event.id.rsplit("-", 1)[1]) for event in log] == list(range(1, EVENTS + 1))
        if after.status == 204:
            assert before.logged == log
            return
        assert before.logged + after.logged == log
        assert after.data("connected")[0]["resumed"] is True
        assert before.text + after.text == TEXT

    async with (
        upstream(streamed(answer(TOKENS), gap_s=0.01)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        await asyncio.gather(*map(cut_and_return, range(1, EVENTS + 1)))
        assert len(service.calls) == EVENTS


@pytest.mark.parametrize("way", WAYS)
async def test_a_finished_stream_is_read_on_from_anywhere(way: Way) -> None:
    """Its rest from each place; 204 at its end, which tells an EventSource to stop."""
    async with (
        upstream(streamed(answer(TOKENS))) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await see(session, "POST", "/stream", json=QUESTION)
        for seq in range(EVENTS):
            assert (await way(session, before, at(before, seq))).logged == before.logged[seq:]
        ended = await way(session, before, at(before, EVENTS))
        assert (ended.status, ended.body, ended.headers["X-Stream-Id"]) == (204, b"", before.headers["X-Stream-Id"])


async def test_without_a_place_everything_comes_with_its_text_in_one_piece() -> None:
    """A reload of the page: no id is known, so the text so far is set and not appended."""
    async with (
        upstream(streamed(answer(TOKENS))) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await see(session, "POST", "/stream", json=QUESTION)
        after = await see(session, "GET", before.headers["Location"])
    assert after.data("text") == [{"token": TEXT, "replace": True}]
    assert after.logged[-1] == before.logged[-1]
    assert after.data("connected")[0]["resumed"] is False


async def test_at_the_head_of_a_live_stream_there_is_nothing_to_say_yet() -> None:
    """Up to date: the next thing heard is the next token, and it is heard once."""
    steps: list[Step] = ["headers", chunked(chunk({"content": "one "})), 0.3, *streamed(answer(["two"]))[1:]]
    async with (
        upstream(steps) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await see(session, "POST", "/stream", json=QUESTION, upto=4)
        assert before.text == "one "
        after = await by_header(session, before, before.logged[-1].id)
    assert (after.names[:2], after.text) == (["connected", "text"], "two")
    assert seqs(before) + seqs(after) == list(range(1, 7))


async def test_readers_at_the_same_time_hear_the_same() -> None:
    """Two tabs from the beginning and one that joins in the middle."""
    async with (
        upstream(streamed(answer(TOKENS), gap_s=0.02)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        first = await see(session, "POST", "/stream", json=QUESTION, upto=6)
        start = [by_header(session, first, at(first, 0)) for _ in range(2)]
        late = by_header(session, first, at(first, 5))
        one, two, three = await asyncio.gather(*start, late)
    assert one.logged == two.logged
    assert (len(one.logged), three.logged) == (EVENTS, one.logged[5:])
    assert len(service.calls) == 1


async def test_the_header_wins_over_the_query() -> None:
    """EventSource keeps the query of its URL for ever, and sends the newer place in the header."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        before = await see(session, "POST", "/stream", json={"query": "hi", "max_tokens": 5})
        url = f"{before.headers['Location']}?last_event_id={at(before, 1)}"
        after = await see(session, "GET", url, headers={"Last-Event-ID": at(before, 4)})
    assert after.logged == before.logged[4:]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("seq", "epoch"), [(EVENTS + 1, 1), (10**14, 1), (1, 2), (EVENTS, 999_999_999)])
async def test_a_place_that_never_was_is_reset(way: Way, seq: int, epoch: int) -> None:
    """Beyond the end, or of another epoch: said, and then everything anew; never a silent mixture."""
    async with (
        upstream(streamed(answer(TOKENS))) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await see(session, "POST", "/stream", json=QUESTION)
        after = await way(session, before, at(before, seq, epoch))
    assert after.names[:2] == ["connected", "warning"]
    warning = after.data("warning")[0]
    assert (warning["code"], warning["to"]) == ("RESET", EVENTS)
    assert after.text == TEXT
    assert after.data("text")[0]["replace"] is True
    assert after.logged[-1] == before.logged[-1]


async def test_a_place_beyond_the_head_of_a_live_stream_is_reset_and_goes_on() -> None:
    """The same while it grows: what is there anew, and then the rest as it comes."""
    async with (
        upstream(streamed(answer(TOKENS), gap_s=0.02)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await see(session, "POST", "/stream", json=QUESTION, upto=6)
        after = await by_header(session, before, at(before, 500))
    assert (after.data("warning")[0]["code"], after.text, after.names.count("complete")) == ("RESET", TEXT, 1)


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [({"GATEWAY_STREAM__MAX_EVENTS": "16"}, True), ({"GATEWAY_STREAM__MAX_BYTES": "2048"}, False)],
    ids=["too many events", "too many bytes"],
)
async def test_a_place_older_than_what_is_kept_is_a_gap(bounds: dict[str, str], kept: bool) -> None:
    """Said with how much is missing; then what is kept as one piece, and what is gone is not made up."""
    tokens = [f"token {number:>8} {'x' * 20} " for number in range(100)]
    async with (
        upstream(streamed(answer(tokens), gap_s=0.001)) as service,
        house(OPENAI_BASE_URL=service.url, **bounds) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await see(session, "POST", "/stream", json=QUESTION)
        after = await by_header(session, before, at(before, 5))
    assert before.text == "".join(tokens)
    warning = after.data("warning")[0]
    assert (warning["code"], warning["dropped"] > 0, warning["to"]) == ("GAP", True, len(tokens) + 4)
    assert after.names[:2] == ["connected", "warning"]
    assert after.data("text")[0]["replace"] is True
    assert before.text.endswith(after.text)
    assert (after.text == before.text) is kept
    assert seqs(after) == sorted(set(seqs(after)))
    assert after.logged[-1] == before.logged[-1]
