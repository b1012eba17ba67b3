"""Truncate: a long answer ends at the end of a sentence, never beyond its cap, however it came."""

import random
import re
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Event, Metadata, Reasoning, Refusal, Text, TextComplete, ToolCall, Usage, Warned
from gateway.request import Caps
from gateway.stages.truncate import HELD_MAX, LOOK, Truncate
from tests.doubles import END, ManualClock

SENTENCE = "This sentence has exactly seven words here. "
TOKEN = re.compile(r"\s*\S{1,5}|\s+")


def truncate(clock: ManualClock | None = None, *, max_bytes: int = 1_000_000, **caps: Any) -> Truncate:
    """A stage with these caps; its question took five tokens."""
    return Truncate(Caps(**caps), max_bytes=max_bytes, asked_tokens=lambda: 5, clock=clock or ManualClock())


def tokens(text: str) -> list[Event]:
    """A text in small pieces."""
    return [Text(token) for token in TOKEN.findall(text)]


def fed(stage: Truncate, events: Sequence[Event], each: int = 1) -> list[Event]:
    """What comes of these events in batches of so many; all that is held at the end included."""
    made: list[Event] = []
    for at in range(0, len(events), each):
        made += stage.feed(events[at : at + each])
    return made


def said(events: Sequence[Event]) -> str:
    """Their text."""
    return "".join(event for event in events if isinstance(event, Text))


def test_a_long_answer_ends_with_its_last_whole_sentence() -> None:
    """Then the warning, then the end of the text with an estimate of the usage; nothing comes behind."""
    stage = truncate(words=1000)
    made = fed(stage, [*tokens(SENTENCE * 200), END])
    text = said(made)
    assert text == (SENTENCE * 142).rstrip()
    warning, end = made[-2:]
    assert warning == Warned("TRUNCATED", "the answer may not be longer than 1000 words", {"words": 994, "limit": 1000})
    assert end == TextComplete("length", Usage(5, len(text) // 4, reported=False))
    assert not stage.feed([Text("more"), END])
    assert not stage.last()


def test_an_answer_as_long_as_its_cap_is_whole() -> None:
    """With the space behind its last word; nothing is said about caps."""
    events = [*tokens("word " * 999 + "last.\n\n"), END]
    assert fed(truncate(words=1000), events) == events


@pytest.mark.parametrize("words", [1, 7, 10, 71, 100, 999])
def test_there_are_never_more_words_than_the_cap(words: int) -> None:
    """Whatever its size."""
    made = fed(truncate(words=words), [*tokens(SENTENCE * 200), END])
    count = len(said(made).split())
    assert count <= words
    assert count >= words - 7
    assert isinstance(made[-1], TextComplete)


def test_a_sentence_without_an_end_is_cut_behind_its_last_word() -> None:
    """With the same warning."""
    made = fed(truncate(words=100), [*tokens("and so on " * 100), END])
    assert said(made) == ("and so on " * 34)[: len("and so on ") * 33 + 3]
    assert made[-2] == Warned("TRUNCATED", made[-2].message, {"words": 100, "limit": 100})  # type: ignore[attr-defined]  # a warning


@pytest.mark.parametrize("seed", range(20))
def test_batches_and_repetition_make_no_difference(seed: int) -> None:
    """Event by event the same, for an exact source is poured again; and all but the last a beginning of what came."""
    chance = random.Random(seed)
    words = [chance.choice(["word", "word.", "3.14", "e.g.", "中文字", "wow!\n", "“Yes.”"]) for _ in range(400)]
    events: list[Event] = [*tokens(" ".join(words)), END]
    for at in sorted(chance.sample(range(len(events)), 20), reverse=True):
        events.insert(at, Metadata({"at": at}))
    caps: dict[str, Any] = {"words": chance.randrange(1, 400), "bytes": chance.choice([0, chance.randrange(1, 2000)])}
    one = fed(truncate(**caps), events)
    for each in (2, 7, 64, len(events)):
        assert fed(truncate(**caps), events, each) == one
    ends = [number for number, event in enumerate(one) if isinstance(event, Warned)]
    kept = max(0, ends[0] - 1) if ends else len(one)
    assert one[:kept] == events[:kept]


def test_beyond_nine_tenths_sentences_come_whole() -> None:
    """Nothing that might have to be taken back is said; before that, each token passes at once."""
    stage, events = truncate(words=70), tokens(SENTENCE * 12)
    text, steps = "", 0
    for event in events:
        made = said(stage.feed([event]))
        text += made
        steps += 63 < len(text.split()) <= 70 and bool(made)
    assert said(fed(truncate(words=70), tokens(SENTENCE * 9))).rstrip() == (SENTENCE * 9).rstrip()
    assert text == (SENTENCE * 10).rstrip()
    assert steps == 1


@pytest.mark.parametrize("words", [12, 30, 45, 100, 1000])
def test_the_end_is_a_sentence_s_however_small_the_cap(words: int) -> None:
    """A sentence that fits is never cut, where the cap is a few sentences or many."""
    text = said(fed(truncate(words=words), tokens(SENTENCE * 200)))
    assert text.rstrip() == (SENTENCE * (words // len(SENTENCE.split()))).rstrip()


def test_what_is_held_is_said_when_nothing_more_comes() -> None:
    """At the end of the text, and where the source fails."""
    events = tokens("word " * 95)
    stage = truncate(words=100)
    assert said(fed(stage, [*events, END])) == "word " * 95
    stage = truncate(words=100)
    assert len(said(fed(stage, events)).split()) == 60
    assert said(stage.last()).split() == ["word"] * 35


def test_what_stands_in_the_log_already_is_counted_and_not_said_again() -> None:
    """As when another process goes on with an answer."""
    stage = truncate(words=100)
    stage.feed([Text("word " * 95)])
    stage.last()
    made = fed(stage, tokens("more " * 10))
    assert said(made).split() == ["more"] * 5
    assert isinstance(made[-1], TextComplete)


def test_a_log_that_is_too_long_already_is_ended_with_the_next_word() -> None:
    """Its cap was another where it was begun."""
    stage = truncate(words=10)
    stage.feed([Text("word " * 95)])
    stage.last()
    made = stage.feed([Text(" more")])
    assert [type(event) for event in made if not isinstance(event, Text)] == [Warned, TextComplete]


def test_a_whole_answer_in_one_piece_is_cut_too() -> None:
    """The piece is cut; what is no text before it passes."""
    fact = Metadata({"model": "m"})
    made = truncate(words=10).feed([fact, Text(SENTENCE * 3), END])
    assert made[:2] == [fact, Text(SENTENCE.rstrip())]
    assert len(made) == 4


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One two three. Four five six", "One two three."),
        ("One two three? Four five six", "One two three?"),
        ("One two “three.” Four five six", "One two “three.”"),
        ("One two 3.14 four five six", ""),
        ("One. Two e.g. three four five", "One."),
        ("One. Dr. Two three four five", "One."),
        ("One. J. Two three four five", "One."),
        ("- one two\n- three four five", "- one two"),
        ("One.\n1. Two three four five", "One."),
        ("एक दो। तीन चार पाँच छह", "एक दो।"),
        ("واحد اثنان؟ ثلاثة اربعة خمسة ستة", "واحد اثنان؟"),
        ("今天天气。明天会怎么样呢", "今天天气。"),
    ],
)
def test_sentences_end_where_readers_see_them_end(text: str, kept: str) -> None:
    """Not in numbers, abbreviations, initials and the numbers of lists; lines end too."""
    before = "word " * 44 + "end.\n"
    made = fed(truncate(words=50), [*tokens(before + text + " and so on"), END])
    assert said(made) == (before + kept).rstrip()


def test_words_of_scripts_without_spaces_are_counted_by_letters() -> None:
    """Two letters a word: however it is cut, and though no space comes for ever."""
    for size in (1, 2, 3, 50):
        text = "汉" * 300
        events: list[Event] = [Text(text[at : at + size]) for at in range(0, 300, size)]
        assert said(fed(truncate(words=100), [*events, END])) == "汉" * 200


def test_tokens_and_bytes_are_caps_too() -> None:
    """Tokens are four characters, bytes those of UTF-8; the warning tells which cap it was."""
    made = fed(truncate(tokens=25), [*tokens("abcd fghi " * 20), END])
    assert said(made) == ("abcd fghi " * 10).rstrip()
    assert made[-2].details == {"tokens": 24, "limit": 25}  # type: ignore[attr-defined]  # a warning
    made = fed(truncate(bytes=100), [*tokens("über über " * 20), END])
    assert len(said(made).encode()) <= 100
    assert made[-2].details == {"bytes": len(said(made).encode()), "limit": 100}  # type: ignore[attr-defined]  # a warning


def test_seconds_count_from_the_first_content() -> None:
    """Near their end sentences come whole; at their end the last whole one was the last."""
    clock = ManualClock()
    stage = truncate(clock, seconds=10)
    clock.advance(100)
    assert said(stage.feed([Text("One two. ")])) == "One two. "
    clock.advance(9.5)
    assert said(stage.feed([Text("Three")])) == ""
    assert said(stage.feed([Text(" four. Fi")])) == "Three"
    clock.advance(1)
    made = stage.feed([Text("ve")])
    assert said(made) == " four."
    assert made[-2:] == [
        Warned("TRUNCATED", "the answer may not be longer than 10 seconds", {"seconds": 10, "limit": 10}),
        TextComplete("length", Usage(5, 5, reported=False)),
    ]


@pytest.mark.parametrize("kind", [Reasoning, Refusal])
def test_reasoning_and_refusals_count_as_tokens_and_bytes_only(kind: type[Reasoning]) -> None:
    """No word of them is counted; where they become too long the answer ends between two of them."""
    thoughts: list[Event] = [kind("ten chars ") for _ in range(20)]
    assert fed(truncate(words=5), [*thoughts, Text("five words are not more"), END])[-2:] == [
        Text("five words are not more"),
        END,
    ]
    made = fed(truncate(bytes=105), [*thoughts, END])
    assert made[:10] == thoughts[:10]
    assert [type(event) for event in made[10:]] == [Warned, TextComplete]


def test_a_tool_call_is_never_cut() -> None:
    """Half of its arguments would be none; it counts, so that text behind it may be too much."""
    call: list[Event] = [ToolCall(0, "x" * 50) for _ in range(20)]
    events = [*call, END]
    assert fed(truncate(words=1, bytes=100, tokens=10), events) == events
    made = fed(truncate(bytes=100), [*call, Text("more")])
    assert made[:20] == call
    assert [type(event) for event in made[20:]] == [Warned, TextComplete]


def test_what_is_not_text_keeps_its_place() -> None:
    """Facts that come while a sentence is held wait with it."""
    fact = Metadata({"k": 1})
    stage = truncate(words=10)
    fed(stage, tokens("one two three four five six seven eight nine"))
    made = [*stage.feed([Text(" ten"), fact]), *stage.feed([END])]
    assert made[-3:] == [Text(" ten"), fact, END]


def test_no_more_is_held_than_a_sentence_can_be() -> None:
    """Text without any end is not held for ever."""
    stage, held = truncate(words=10_000), 0
    fed(stage, [Text("word " * 9_001)])
    for _ in range(10_000):
        made = stage.feed([Text("longerword" * 5)])
        held = 0 if made else held + 50
        assert held <= HELD_MAX


def test_caps_do_not_soften_the_hard_bound() -> None:
    """Beyond it the stream fails, however far away the caps are."""
    stage = truncate(words=1_000_000, max_bytes=2 * LOOK)
    with pytest.raises(GatewayError) as raised:
        fed(stage, tokens("word " * LOOK))
    assert raised.value.code is Code.OUTPUT_LIMIT


def test_most_batches_pass_as_they_are() -> None:
    """The very same objects."""
    stage = truncate(words=1000)
    for _ in range(100):
        batch: list[Event] = [Text("word ")]
        assert stage.feed(batch) is batch
