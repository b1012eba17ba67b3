"""The readers: they come back after a cut as a browser does, and remember every event, status and pause."""

from pathlib import Path

import pytest

from fleet.checker import check, figures
from fleet.children import free_port
from fleet.document import TOPICS, Document
from fleet.readers import Question, Reader, Readers, read_again
from fleet.visit import Seen, Visit
from tests.cutter import cutter
from tests.house import house

LIMIT_S = 20.0
SOON = {"GATEWAY_DELIVERY__RETRY_MS": "100"}


def settings(document: Document, tokens_per_s: int = 400) -> dict[str, str]:
    """A gateway that knows this document only, and says it at this pace."""
    return {
        "GATEWAY_LOCAL__DOCUMENTS": str(document.path),
        "GATEWAY_LOCAL__TOKENS_PER_S": str(tokens_per_s),
        **SOON,
    }


async def test_what_readers_see_undisturbed_is_without_fault(tmp_path: Path) -> None:
    """Many at once, of both kinds: the text is the answer, the log says the same, every status is 200."""
    document = Document(tmp_path / "topics.md", 50)
    questions = [Question(document.question(number), ("GET", "POST")[number % 2]) for number in range(60)]
    async with house(**settings(document)) as gateway:
        histories = await Readers(gateway.urls[0], questions).run(LIMIT_S)
        logs = await read_again(gateway.urls[0], histories)
    for seen in (histories, logs):
        found = figures([check(history, document.answer(history.number)) for history in seen])
        assert found.violations == []
        assert (found.ended, found.lost, found.calls, found.refused.total()) == (60, 0, 60, 0)
    assert len({history.sid for history in histories}) == 60


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_events_are_heard_however_their_bytes_are_cut(size: int) -> None:
    """Heartbeats are none, an id belongs to its own event only, and one without its blank line never happened."""
    body = b'retry: 300\nevent: connected\ndata: {"a":1}\n\n: hb\nevent: text\ndata: {"token":"x"}\nid: s-1-2\n\n'
    body += b'event: warning\ndata: {}\n\nevent: text\ndata: {"token":"y"}\nid: s-1-3\n'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer += b"".join(b"%x\r\n%b\r\n" % (len(body[at : at + 9]), body[at : at + 9]) for at in range(0, len(body), 9))
    heard: list[Seen] = []
    retries: list[float] = []
    visit = Visit(b"", heard.append, retries.append)
    for at in range(0, len(answer), size):
        visit.data_received(answer[at : at + size])
    assert [(seen.name, seen.id, seen.text) for seen in heard] == [
        ("connected", "", ""),
        ("text", "s-1-2", "x"),
        ("warning", "", ""),
    ]
    assert (retries, visit.status, visit.whole) == ([0.3], 200, False)
    visit.data_received(b"0\r\n\r\n")
    assert visit.whole


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_reader_that_is_cut_comes_back_and_misses_nothing(tmp_path: Path, method: str) -> None:
    """Before the first id, in an event, and between two; it waits as long as it was told."""
    document = Document(tmp_path / "topics.md", 100)
    cuts = [rb"id: \w{8}", rb"-1-50\n\n.{0,9}event: text\ndata", rb"-1-80\n\n"]
    async with house(**settings(document, 60)) as gateway, cutter(gateway.urls[0], cuts=cuts) as line:
        history = await Reader(line.url, 0, Question(document.question(0), method)).run(LIMIT_S)
        assert line.cut_count == len(cuts)
    verdict = check(history, document.answer(0))
    assert verdict.violations == []
    assert (verdict.calls, verdict.cuts) == (4, 3)
    pauses = [after.began - before.ended for before, after in zip(history.calls, history.calls[1:], strict=False)]
    # The first was cut behind its `retry:` line, which is spread around what is set.
    assert min(pauses) > 0.04
    assert max(pauses) < 1.0


async def test_a_browser_gives_up_on_a_status_that_is_not_200(tmp_path: Path) -> None:
    """And says so, with the status in its history: EventSource would be closed for ever."""
    document = Document(tmp_path / "topics.md", 5)
    async with house(**settings(document)) as gateway:
        history = await Reader(gateway.urls[0], 0, Question("?"), sid="x" * 22).run(LIMIT_S)
    assert (history.gave_up, [call.status for call in history.calls]) == ("status 404", [404])
    assert check(history, "").refused == {404: 1}


async def test_a_gateway_that_is_not_there_is_asked_again() -> None:
    """A refused connection is no answer; the reader stops when its time is over."""
    reader = Reader(f"http://127.0.0.1:{free_port()}", 0, Question("?"))
    reader._retry_s = 0.05
    history = await reader.run(0.5)
    assert history.gave_up.startswith("not ended")
    assert len(history.calls) > 3
    assert {call.status for call in history.calls} == {0}


def test_each_question_has_its_own_answer(tmp_path: Path) -> None:
    """No word stands in two of them, so that a mixture can be told."""
    document = Document(tmp_path / "topics.md", 20)
    words = [set(document.answer(number).split()[:19]) for number in range(TOPICS)]
    assert len(set.union(*words)) == 19 * TOPICS
    assert document.question(0) == document.question(TOPICS)
