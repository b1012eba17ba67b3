"""Many streams at once through one process and a real nginx: every text whole, and nobody else's."""

from pathlib import Path

import orjson
import pytest

from gateway.events import Text
from gateway.sources.local import LocalSource
from gateway.sources.passages import Library
from tests.doubles import question
from tests.house import Seen
from tests.load import Client, ask_all, at_scale, get, over, post
from tests.scale.conftest import WORDS
from tests.scale.edges import NGINX_TCP, NGINX_UNIX, edge
from tests.scale.figures import becomes

STREAMS = at_scale(500, 2000)
TOKENS = at_scale(100, 400)


def expected(document: str) -> dict[str, str]:
    """What the local source says about each word."""
    source = LocalSource(Library.of_files([Path(document)]), first_token_s=0, tokens_per_s=0)
    answers = {word: source.answer(question(f"verse of {word}", max_tokens=TOKENS)) for word in WORDS}
    return {word: "".join(e.token for e in answer if isinstance(e, Text)) for word, answer in answers.items()}


def request_for(number: int) -> bytes:
    """Native POSTs, EventSources and OpenAI clients in turn, each asking about its own word."""
    about = f"verse of {WORDS[number % len(WORDS)]}"
    if number % 3 == 0:
        return post("/stream", {"query": about, "max_tokens": TOKENS})
    if number % 3 == 1:
        return get(f"/stream?query={about.replace(' ', '+')}&max_tokens={TOKENS}")
    messages = [{"role": "user", "content": about}]
    body = {"model": "local", "stream": True, "messages": messages, "max_tokens": TOKENS}
    return post("/v1/chat/completions", body)


def openai_text(seen: Seen) -> str:
    """The text of an OpenAI stream that ended as it should."""
    assert seen.events[-1].data == "[DONE]"
    chunks = [orjson.loads(event.data) for event in seen.events[:-1]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("kind", [NGINX_UNIX, NGINX_TCP])
async def test_all_of_them_complete_and_nothing_is_lost_or_mixed_up(kind: str, documents: str, tmp_path: Path) -> None:
    """50 tokens a second each; each text is compared with what the source says to that question."""
    local = {"GATEWAY_LOCAL__DOCUMENTS": documents, "GATEWAY_LOCAL__TOKENS_PER_S": "50"}
    texts = expected(documents)
    assert len(set(texts.values())) == len(WORDS)
    with edge(kind, tmp_path, **local) as at:
        cpu_s = at.gateway.cpu_s
        clients = await ask_all(at.address, map(request_for, range(STREAMS)))
        await over(clients, 100)
        cpu_s = at.gateway.cpu_s - cpu_s
        print(f"{kind}: {STREAMS} streams, {cpu_s / STREAMS / TOKENS * 1e6:.0f} µs CPU a token")
        for number, client in enumerate(clients):
            _check(number, client, texts[WORDS[number % len(WORDS)]])
        found = await becomes(at.inside, ssegw_streams_active=0, ssegw_readers_active=0)
    assert found["ssegw_stream_outcomes_total{outcome=ok}"] == STREAMS
    assert found["ssegw_readers_left_total{ending=finished}"] == STREAMS


def _check(number: int, client: Client, text: str) -> None:
    seen = client.seen()
    assert (seen.status, seen.cut) == (200, False)
    if number % 3 == 2:
        assert openai_text(seen) == text
        return
    assert seen.text == text
    assert [int(event.id.rpartition("-")[2]) for event in seen.logged] == list(range(1, len(seen.logged) + 1))
    assert seen.names[-2:] == ["complete", "close"]
