"""Seam: what a model repeats of the text that it goes on behind is dropped, and nothing else."""

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.events import Event, Metadata, Reasoning, Text, ToolCall
from gateway.resilience.seam import KINDS_MIN, OVERLAP_MAX, OVERLAP_MIN, RESTART_MIN, Behind, Seam
from tests.doubles import END

FOX = "The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun for an hour or two."
LONG = " ".join(f"Sentence number {number} says something of its own." for number in range(100))


def said_behind(text: str, *pieces: str) -> str:
    """What comes through of these pieces."""
    seam = Seam(text)
    return "".join(piece if seam.closed else seam.feed(piece) for piece in pieces) + (
        "" if seam.closed else seam.flush()
    )


@pytest.mark.parametrize(
    ("text", "said", "new"),
    [
        (FOX[:43], FOX[31:], FOX[43:]),
        (FOX[:43], FOX, FOX[43:]),
        (LONG[:-9], LONG, LONG[-9:]),
        (LONG[:3000], LONG[2500:3100], LONG[3000:3100]),
        ("One two three four ", "two three four five", "five"),
        (FOX[:45], " and then", "and then"),
        ("It ends.\n\nThe lazy dog", " The lazy dog sleeps", " sleeps"),
        ("One two three four \n", "two three four \n- five", "- five"),
        ("  " + FOX[:43], FOX, FOX[43:]),
        (LONG[:3000], LONG[:60] + "but otherwise", "but otherwise"),
    ],
    ids=[
        "the last words",
        "the whole text",
        "a whole long text",
        "half a page",
        "the last words, the space behind them trimmed",
        "a space behind a space",
        "the last words behind another space",
        "space and line end too",
        "a text that begins with space",
        "another answer that begins the same",
    ],
)
@pytest.mark.parametrize("size", [1, 4, 10_000])
def test_a_repetition_is_dropped_however_it_is_cut(text: str, said: str, new: str, size: int) -> None:
    """In single characters, in tokens, at once."""
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    assert said_behind(text, *pieces) == new


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It is very, ", "very good."),
        ("The quick brown fox jumps. ", "The quick brown cat does not."),
        ("It is so", " and then"),
        ("    if x:\n    ", "    return 1"),
        ("A line\n", "\nanother one"),
        ("-" * 60, "-" * 60 + "\n"),
        ("if x:\n" + " " * 20, " " * 20 + "return"),
        ("", " hello"),
        ("ha", "ha ha"),
        ("if x:\n   ", " return 1"),
        (f"Curious things happen. {LONG}", "Curious things happened."),
        ("-" * 50 + LONG, "-" * 50 + "\n"),
        (FOX, FOX[20:35]),
        (FOX, "The quick brown "),
    ],
    ids=[
        "a word said twice",
        "a sentence that begins like the first",
        "one space",
        "indentation",
        "a line left free",
        "a ruler",
        "deep indentation",
        "no text at all",
        "a short text",
        "indentation in two pieces",
        "a sentence that begins like one long ago",
        "a ruler as long ago",
        "words from the middle, and the end",
        "the first words, and the end",
    ],
)
def test_what_is_no_repetition_comes_through_as_it_is(text: str, said: str) -> None:
    """Byte for byte; too few characters, or the same one again and again, are no repetition."""
    assert said_behind(text, said) == said_behind(text, *said) == said_behind(text, said[:7], said[7:]) == said


TEXT = st.text(alphabet="abcdefgh \n", max_size=60)


@given(
    before=TEXT, repeated=st.text(alphabet="abcdefgh \n", min_size=OVERLAP_MIN, max_size=60), new=TEXT, rng=st.randoms()
)
def test_the_end_is_never_repeated_and_nothing_else_is_lost(
    before: str, repeated: str, new: str, rng: random.Random
) -> None:
    """What is missing of the continuation is the end of the text, at least as much as was repeated."""
    assume(len(set(repeated)) >= KINDS_MIN and repeated == repeated.strip())
    text, said = before + repeated, repeated + new
    through = said_behind(text, *cut(said, rng))
    missing = said.removesuffix(through)
    assert len(missing) + len(through) == len(said)
    assert len(missing) >= len(repeated)
    assert text.endswith(missing)


@given(text=TEXT, said=TEXT, rng=st.randoms())
def test_what_comes_through_is_the_end_of_what_was_said(text: str, said: str, rng: random.Random) -> None:
    """However it is cut; what is missing in front stands in the text already, but for space."""
    through = said_behind(text, *cut(said, rng))
    assert through == said_behind(text, said)
    assert said.endswith(through)
    missing = said.removesuffix(through).strip() if through else said.strip()
    assert missing in text
    assert not missing or len(missing) >= KINDS_MIN


@given(text=TEXT, said=st.text(alphabet="klmnop", min_size=1, max_size=60), rng=st.randoms())
def test_strange_words_are_not_held_back(text: str, said: str, rng: random.Random) -> None:
    """The first character that cannot be a repetition opens the seam for ever."""
    seam = Seam(text)
    assert seam.feed(said[0]) == said[0]
    assert seam.closed


def test_no_more_is_held_than_may_be_a_repetition() -> None:
    """Of an answer that begins again next to nothing, of one that repeats its end what is looked at."""
    seam, held = Seam(LONG), 0
    for character in LONG[:-1]:
        assert seam.feed(character) == ""
        held = max(held, len(seam._held))
    assert held <= RESTART_MIN
    seam = Seam(LONG)
    blank = [seam.feed(" ") for _ in range(2 * OVERLAP_MAX) if not seam.closed]
    assert seam.closed
    assert len("".join(blank)) >= OVERLAP_MAX - 1


def test_a_repetition_that_is_whole_is_not_waited_with() -> None:
    """Nothing longer can come of it, so that the next piece is not held up."""
    seam = Seam(FOX[:43])
    assert seam.feed(FOX[31:43]) == ""
    assert seam.closed


def poured_behind(text: str, *batches: list[Event], flush: bool = True) -> list[list[Event]]:
    """What reaches the outlet."""
    poured: list[list[Event]] = []
    behind = Behind(text, poured.append)
    for batch in batches:
        behind(batch)
    if flush:
        behind.flush()
    return poured


def test_an_outlet_behind_a_text_gets_only_what_is_new() -> None:
    """Never an empty batch; facts overtake the text that waits, so that they are not late."""
    facts = Metadata({"model": "m"})
    first: list[Event] = [facts, Text("over the "), Text("lazy ")]
    poured = poured_behind(FOX[:43], first, [Text("dog")], [Text(", and")], [Text("the lazy dog"), END])
    assert poured == [[facts], [Text(", and")], [Text("the lazy dog"), END]]


@pytest.mark.parametrize("event", [END, Reasoning("hm"), ToolCall(0)], ids=lambda event: type(event).__name__)
def test_nothing_that_belongs_behind_the_text_overtakes_it(event: Event) -> None:
    """What waits is said before the answer ends or turns to something else."""
    assert poured_behind(FOX[:43], [Text("over the ")], [event]) == [[Text("over the "), event]]


def test_what_waits_is_said_when_the_source_is_over() -> None:
    """Once, and not if nothing waits."""
    assert poured_behind(FOX[:43], [Text("over the ")], flush=False) == []
    assert poured_behind(FOX[:43], [Text("over the ")]) == [[Text("over the ")]]
    assert poured_behind(FOX[:43], [Text("Well.")]) == [[Text("Well.")]]


def cut(said: str, rng: random.Random) -> list[str]:
    """In pieces of one to six characters."""
    pieces = []
    while said:
        size = rng.randint(1, 6)
        pieces.append(said[:size])
        said = said[size:]
    return pieces
