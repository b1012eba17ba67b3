"""Feedback: who may rate an answer, what counts, and that changing one's mind does not count twice."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app.house import Gateway
from tests.house import Seen, house, see
from tests.tenancy import ACME_KEY, SECOND_KEY, bearer, token, write

ALICE, BOB = {"X-User-Id": "alice"}, {"X-User-Id": "bob"}


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """Without tenants."""
    async with house() as gateway:
        yield gateway


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as web:
        yield web


async def asked(web: aiohttp.ClientSession, gateway: Gateway) -> str:
    """Where an answer of Alice's, which has ended, is rated."""
    seen = await see(web, "POST", f"{gateway.urls[0]}/stream", json={"query": "hi"}, headers=ALICE)
    return f"{gateway.urls[0]}/stream/{seen.headers['X-Stream-Id']}/feedback"


async def rate(web: aiohttp.ClientSession, url: str, said: Any, headers: dict[str, str] = ALICE) -> Seen:
    """One rating."""
    return await see(web, "POST", url, json=said, headers=headers)


def counted(gateway: Gateway) -> dict[str, float]:
    """Ratings, by the stars."""
    return {str(labels): count for labels, count in gateway.metrics._rollout.ratings.items()}


async def test_an_answer_is_rated_by_its_reader(gateway: Gateway, web: aiohttp.ClientSession) -> None:
    """Also when it has ended; the comment is taken, and appears nowhere."""
    url = await asked(web, gateway)
    seen = await rate(web, url, {"rating": 4, "comment": "my-medical-history"})
    assert (seen.status, seen.json()["rating"]) == (200, 4)
    assert counted(gateway) == {"4": 1}
    assert b"my-medical-history" not in seen.body


async def test_said_again_it_counts_once_and_changed_it_is_replaced(
    gateway: Gateway, web: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A button that is pressed twice is one opinion."""
    told: list[tuple[int, int | None]] = []
    monkeypatch.setattr(gateway._feedback, "_rated", lambda rating, before: told.append((rating, before)))
    url = await asked(web, gateway)
    for rating in (4, 4, 2, 2):
        assert (await rate(web, url, {"rating": rating})).status == 200
    assert told == [(4, None), (2, 4)]


async def test_an_answer_has_one_rating_whatever_names_its_reader_makes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ever new sessions, ever new users where nobody in particular asked, another credential: one opinion, the last."""
    told: list[tuple[int, int | None]] = []
    async with house(GATEWAY_TENANTS__FILE=str(write(tmp_path))) as gateway, aiohttp.ClientSession() as web:
        monkeypatch.setattr(gateway._feedback, "_rated", lambda rating, before: told.append((rating, before)))
        for asking, names in (
            (bearer(token()), [{"X-Session-Id": f"made-up-{number}"} for number in range(5)]),
            (bearer(ACME_KEY), [{"X-User-Id": f"made-up-{number}"} for number in range(5)]),
        ):
            told.clear()
            seen = await see(web, "POST", f"{gateway.urls[0]}/stream", json={"query": "hi"}, headers=asking)
            url = f"{gateway.urls[0]}/stream/{seen.headers['X-Stream-Id']}/feedback"
            for name in names:
                assert (await rate(web, url, {"rating": 1}, {**asking, **name})).status == 200
            by_key = {**bearer(SECOND_KEY), "X-User-Id": "alice"}
            assert (await rate(web, url, {"rating": 5}, by_key)).status == 200
            assert told == [(1, None), (5, 1)]


async def test_somebody_else_s_stream_is_not_there(gateway: Gateway, web: aiohttp.ClientSession) -> None:
    """404, as for one that never was; and nothing is counted."""
    url = await asked(web, gateway)
    theirs = await rate(web, url, {"rating": 1}, BOB)
    never = await rate(web, f"{gateway.urls[0]}/stream/{'a' * 22}/feedback", {"rating": 1})
    assert theirs.status == never.status == 404
    assert theirs.json()["code"] == never.json()["code"] == "STREAM_NOT_FOUND"
    assert counted(gateway) == {}


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({"rating": 0}, "INVALID_REQUEST", "rating"),
        ({"rating": 6}, "INVALID_REQUEST", "rating"),
        ({"rating": 4.5}, "INVALID_REQUEST", "rating"),
        ({"rating": "4"}, "INVALID_REQUEST", "rating"),
        ({"rating": True}, "INVALID_REQUEST", "rating"),
        ({}, "INVALID_REQUEST", "rating"),
        ({"rating": 4, "comment": "a" * 4001}, "INVALID_REQUEST", "comment"),
        ({"rating": 4, "stars": 4}, "INVALID_REQUEST", None),
        ([4], "INVALID_JSON", None),
    ],
)
async def test_what_is_no_rating_is_refused(
    gateway: Gateway, web: aiohttp.ClientSession, said: Any, code: str, field: str | None
) -> None:
    """400, with the field."""
    seen = await rate(web, await asked(web, gateway), said)
    assert (seen.status, seen.json()["code"], seen.json().get("field")) == (400, code, field)
    assert counted(gateway) == {}


async def test_memory_is_bounded_however_many_are_rated(
    gateway: Gateway, web: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are forgotten first."""
    monkeypatch.setattr("gateway.routes.feedback.REMEMBERED_MAX", 2)
    urls = [await asked(web, gateway) for _ in range(3)]
    for url in urls:
        await rate(web, url, {"rating": 5})
    assert len(gateway._feedback._ratings) == 2
