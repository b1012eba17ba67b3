"""The history checker: made-up histories with one fault each, and the fault is found and named with its place."""

from typing import Any

import pytest

from fleet.checker import check, check_log, figures
from fleet.readers import Call, History, Question
from fleet.visit import Seen

SID = "4fzyo82mVyr5LGj1BvQeXa"
WORDS = ["one", " two", " three", " four", " five", " six"]
TRUTH = "".join(WORDS)


def seen(name: str, place: str, at: float = 0.0, sid: str = SID, **data: Any) -> Seen:
    """One event; `place` is epoch and number, or nothing."""
    return Seen(at, name, f"{sid}-{place}" if place else "", data)


def text(seq: int, token: str, *, epoch: int = 1, **more: Any) -> Seen:
    """One piece of text, as many seconds from the start as its number."""
    return seen("text", f"{epoch}-{seq}", float(seq), token=token, **more)


def whole(first_epoch: int = 1) -> list[Seen]:
    """What a client sees that nothing happens to: opened, six words at 2 to 7, text complete, the end."""
    return [
        seen("connected", "", stream_id=SID),
        seen("status", f"{first_epoch}-1", state="opened"),
        *(text(seq, word) for seq, word in enumerate(WORDS, 2)),
        seen("status", "1-8", state="text_complete"),
        seen("complete", "1-9", status="completed", finish_reason="stop"),
        seen("close", "", reason="complete"),
    ]


def history(events: list[Seen], *statuses: int) -> History:
    """A client that saw this, over so many connections."""
    calls = [Call(0.0, 1.0, status, True) for status in statuses or (200,)]
    last = next((event.id for event in reversed(events) if event.id), "")
    finished = any(event.name in ("complete", "error") for event in events)
    return History(7, Question("?"), events, calls, SID, last, finished)


def test_a_whole_history_is_without_fault() -> None:
    """Nothing lost, nothing repeated, and the pauses are between pieces of text."""
    verdict = check(history(whole()), TRUTH)
    assert (verdict.lost, verdict.repeated, verdict.violations) == (0, 0, [])
    assert verdict.silence_s == 1.0


LOST = whole()[:4] + whole()[5:]
REPEATED = whole()[:5] + whole()[4:]
FAULTS: dict[str, tuple[list[Seen], int, int, str]] = {
    "a lost piece": (LOST, 1, 0, "text 1-5: text from 7 to 13 is missing"),
    "a lost event that is no text": ([*whole()[:8], *whole()[9:]], 1, 0, "complete 1-9: 1 missing"),
    "a lost end of the text": ([*whole()[:7], *whole()[8:]], 2, 0, "the text ends at 23 of 27"),
    "a repeated piece": (REPEATED, 0, 1, "text 1-4: comes after 1-4"),
    "a piece repeated under a new number": (
        [*whole()[:4], text(4, " two"), *(event for event in whole()[5:])],
        1,
        1,
        "text 1-4: ' two' is there already, at 3 of 7",
    ),
    "a mixture with another answer": ([*whole()[:3], text(3, " zwei"), *whole()[4:]], 0, 0, "a mixture at 3"),
    "another stream's event": ([*whole()[:3], seen("text", "1-3", sid="x" * 22, token=" two"), *whole()[3:]], 0, 0,
                               "belongs to another stream"),
    "a second end": ([*whole(), seen("complete", "1-10", status="completed")], 0, 1, "comes after the terminal event"),
    "text after the end": ([*whole(), text(10, " seven")], 0, 1, "comes after the terminal event"),
    "no end": (whole()[:9], 0, 0, "no terminal event"),
    "an end that is a failure": (
        [*whole()[:9], seen("error", "1-9", code="PRODUCER_LOST")], 0, 0, "an error: PRODUCER_LOST"
    ),
    "an end that is a cancel": ([*whole()[:9], seen("complete", "1-9", status="cancelled")], 0, 0, "is cancelled"),
    "an older epoch": (
        [*whole()[:4], text(4, " three", epoch=2), *whole()[5:]], 0, 5, "text 1-5: comes after 2-4"
    ),
    "text taken back": ([*whole()[:4], text(4, "one", replace=True), *whole()[5:]], 0, 0, "takes text back"),
}  # fmt: skip


@pytest.mark.parametrize(("events", "lost", "repeated", "named"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_and_named(events: list[Seen], lost: int, repeated: int, named: str) -> None:
    """Each is a violation, whatever it counts as."""
    verdict = check(history(events), TRUTH)
    assert any(named in line for line in verdict.violations), verdict.violations
    assert verdict.repeated == repeated
    assert verdict.lost >= lost


def test_pieces_that_come_joined_are_no_loss() -> None:
    """A slow client is told adjacent text in one piece, with the last one's number."""
    events = [*whole()[:3], text(5, " two three four"), *whole()[6:]]
    assert check(history(events), TRUTH).violations == []


def test_a_stream_that_went_on_elsewhere_is_no_fault() -> None:
    """A higher epoch goes on where the other ended, whether the client is told of it or not."""
    told = [*whole()[:5], seen("status", "2-5", state="continued"), text(6, " four", epoch=2)]
    hidden = [*whole()[:5], text(6, " four", epoch=2)]
    rest = [text(7, " five", epoch=2), text(8, " six", epoch=2), seen("status", "2-9", state="text_complete")]
    end = seen("complete", "2-10", status="completed")
    at_the_end = [*whole()[:8], seen("status", "2-9", state="text_complete")]
    for events in ([*told, *rest, end], [*hidden, *rest, end], [*at_the_end, end]):
        assert check(history(events), TRUTH).violations == []
    assert check(history([*told, *rest, end]), TRUTH).continued == 1


@pytest.mark.parametrize("code", ["GAP", "RESET", "REWIND"])
def test_a_rewind_is_counted_and_no_fault_as_long_as_what_follows_is_right(code: str) -> None:
    """After the warning all comes anew, the first text replacing what there was."""
    warned = [*whole()[:6], seen("warning", "", code=code)]
    anew = [whole()[1], text(4, "one two three", replace=True), *whole()[5:]]
    verdict = check(history([*warned, *anew]), TRUTH)
    assert (verdict.rewinds, verdict.lost, verdict.repeated, verdict.violations) == (1, 0, 0, [])
    mixed = [whole()[1], text(4, "one two three"), *whole()[5:]]
    assert check(history([*warned, *mixed]), TRUTH).violations != []


def test_the_log_must_hold_the_answer_and_the_end_that_the_client_saw() -> None:
    """Another end, a fault in the text, or no log at all are told of."""
    other = [*whole()[:9], seen("complete", "1-10", status="completed")]
    assert check_log(history(whole()), history(whole()), TRUTH) == []
    assert any("the log's is" in line for line in check_log(history(whole()), history(other), TRUTH))
    assert any("log of stream 7" in line for line in check_log(history(whole()), history(LOST), TRUTH))
    unread = history([], 404)
    unread.gave_up = "status 404"
    assert check_log(history(whole()), unread, TRUTH) == [f"stream 7 ({SID}): its log cannot be read (status 404)"]


def test_the_figures_are_those_of_all_clients() -> None:
    """Sums, every status that was not 200, and the silences in order."""
    verdicts = [check(history(whole(), 200, 0, 200), TRUTH), check(history(whole()[:9], 200, 404), TRUTH)]
    found = figures(verdicts, ["more"])
    assert (found.streams, found.ended, found.calls) == (2, 1, 5)
    assert found.refused == {404: 1}
    assert found.silences_s == [1.0, 1.0]
    assert found.silence_s(0.5) == found.silence_s(1.0) == 1.0
    assert len(found.violations) == 2
