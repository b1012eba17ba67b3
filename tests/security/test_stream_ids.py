"""Row 2 of the security matrix: nobody guesses the id of a stream, and nobody learns whether there is one."""

import math
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.streams.ids import ALPHABET, SID_LENGTH, SID_PATTERN, new_sid
from tests.house import Seen, house, see
from tests.tenancy import ACME_HASH, ACME_KEY, ACME_PAGE, RIVAL_KEY, SESSION, bearer, token, write

IDS = 100_000
DEVIATIONS = 6.0
"""Of the mean, that a sum of chances is allowed: more come once in 500 million times."""

OWN = ("x-request-id", "date", "request_id", "timestamp")
"""What each refusal has of its own, in its headers and its body."""

WAYS: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("GET", "/stream/{}", "", None),
    ("GET", "/stream/{}", "{}-1-1", None),
    ("GET", "/stream?query=hi", "{}-1-1", None),
    ("POST", "/stream", "{}-1-1", {"query": "hi"}),
    ("DELETE", "/stream/{}", "", None),
    ("POST", "/stream/{}/feedback", "", {"rating": 1}),
]
"""All that can be asked of a stream by its id: path, place that is come back to, and body."""


@pytest.fixture(scope="module")
def ids() -> list[str]:
    """As many as a busy gateway gives in an hour."""
    return [new_sid() for _ in range(IDS)]


def test_row_2_an_id_holds_128_bits() -> None:
    """By its length and its alphabet, each character of which is as likely as any other."""
    assert len(set(ALPHABET)) == len(ALPHABET) == 62
    assert SID_LENGTH * math.log2(len(ALPHABET)) >= 128


def test_row_2_no_id_comes_twice_or_follows_from_another(ids: list[str]) -> None:
    """No 11 characters in a row, of 65 bits, are given again at any place; nor do ids ascend."""
    assert all(re.fullmatch(SID_PATTERN, sid) for sid in ids)
    assert len({sid[at : at + 11] for sid in ids for at in range(12)}) == 12 * IDS
    ascending = sum(one < other for one, other in pairwise(ids))
    assert abs(ascending - IDS / 2) < DEVIATIONS * math.sqrt(IDS / 12)


def test_row_2_every_character_is_as_likely_at_every_place(ids: list[str]) -> None:
    """Chi-square over the alphabet for each place, and for each pair of neighbours being equal."""
    size = len(ALPHABET)
    free = size - 1
    for at in range(SID_LENGTH):
        found = Counter(sid[at] for sid in ids)
        chi = sum((found[character] - IDS / size) ** 2 for character in ALPHABET) / (IDS / size)
        assert chi < free + DEVIATIONS * math.sqrt(2 * free) + 12, at
    for at in range(SID_LENGTH - 1):
        same = sum(sid[at] == sid[at + 1] for sid in ids)
        assert abs(same - IDS / size) < DEVIATIONS * math.sqrt(IDS / size), at


async def test_row_2_a_foreign_id_is_answered_as_one_that_never_was(tmp_path: Path) -> None:
    """The same status, headers and body, on every route and for whoever asks: nobody learns that there is a stream."""
    async with (
        house(GATEWAY_TENANTS__FILE=str(write(tmp_path))) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        alice = bearer(token())
        alices = await opened(session, alice, session_id=SESSION)
        nobodys = await opened(session, bearer(ACME_KEY))
        unused, used = await tickets(session, 2)
        await opened(session, used)
        rival, bob = bearer(RIVAL_KEY), bearer(token(sub="bob"))
        page = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE, "X-Session-Id": SESSION}
        strangers = [
            (alices, who) for who in (rival, bob, page, unused, used, {**bearer(ACME_KEY), "X-User-Id": "bob"})
        ]
        strangers += [(nobodys, who) for who in (rival, bob, page, used)]
        for foreign, headers in strangers:
            for method, path, place, body in WAYS:
                there, never = [
                    told(
                        await see(
                            session, method, path.format(sid), headers={**headers, **named(place, sid)}, json=body
                        )
                    )
                    for sid in (foreign, new_sid())
                ]
                assert there == never, (method, path, headers)
                assert (there[0], there[2]["code"]) == (404, "STREAM_NOT_FOUND")
        assert (await see(session, "GET", f"/stream/{alices}", headers=alice)).status == 200
        assert (await see(session, "GET", f"/stream/{nobodys}", headers=unused)).status == 200


async def opened(session: aiohttp.ClientSession, headers: dict[str, str], **fields: str) -> str:
    """A stream that has ended."""
    seen = await see(session, "POST", "/stream", headers=headers, json={"query": "hi", **fields})
    assert seen.status == 200
    return str(seen.headers["X-Stream-Id"])


async def tickets(session: aiohttp.ClientSession, count: int) -> list[dict[str, str]]:
    """As many, for nobody in particular, as headers."""
    made = [await see(session, "POST", "/stream/tickets", headers=bearer(ACME_KEY), json={}) for _ in range(count)]
    return [{"Authorization": f"Ticket {seen.json()['ticket']}"} for seen in made]


def named(place: str, sid: str) -> dict[str, str]:
    """The header that names a place in the stream, where one is to be sent."""
    return {"Last-Event-ID": place.format(sid)} if place else {}


def told(seen: Seen) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and body of a refusal, without what is each one's own."""
    headers = {name: value for name, value in seen.headers.items() if name.lower() not in OWN}
    return seen.status, headers, {name: value for name, value in seen.json().items() if name not in OWN}
