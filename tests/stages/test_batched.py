"""Batched: the same text, cut where its sentences end, whatever the tokens and batches that it came in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Event, Metadata, Reasoning, Text, TextComplete, WholeText
from gateway.stages.batched import LONGEST, Batched
from gateway.stages.discreet import Discreet
from tests.doubles import END

CHARACTERS = st.text(st.sampled_from(list("ab .!?…。\n\"')🎈")), max_size=900)


def cut(*events: Event | str) -> list[Event]:
    """What becomes of one batch and the end of the text."""
    stage = Batched()
    said = [event if isinstance(event, Event) else Text(event) for event in events]
    return [*stage.feed(said), *stage.feed([END])]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One. Two.", ["One. ", "Two."]),
        ("Pi is 3.14, e=2.7. So.", ["Pi is 3.14, e=2.7. ", "So."]),
        ('He said: "No." Then', ['He said: "No." ', "Then"]),
        ("What?! No… Yes!\nEnd", ["What?! ", "No… ", "Yes!\n", "End"]),
        ("# Title\n\n- item\n", ["# Title\n", "\n", "- item\n"]),
        ("一。二！三", ["一。", "二！", "三"]),
        ("w " * 101, ["w " * 100, "w "]),
        ("x" * 401, ["x" * 200, "x" * 200, "x"]),
        ("", []),
    ],
)
def test_text_is_cut_behind_sentences_and_lines(text: str, pieces: list[str]) -> None:
    """And behind the last space before 200 characters where there is no end."""
    assert cut(text) == [*map(Text, pieces), END]


@given(CHARACTERS, st.data())
def test_where_it_is_cut_depends_on_the_characters_alone(text: str, data: st.DataObject) -> None:
    """Not on the tokens, nor on how they came together; nothing is lost, nothing is longer than the bound."""
    marks = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    tokens = [Text(text[start:end]) for start, end in pairwise([0, *marks, len(text)])]
    one, each = Batched(), Batched()
    together = [*one.feed(tokens), *one.last()]
    assert together == [*(made for token in tokens for made in each.feed([token])), *each.last()]
    assert together == [event for event in cut(text) if not isinstance(event, TextComplete)]
    assert "".join(map(str, together)) == text
    assert all(0 < len(str(event)) <= LONGEST for event in together)


def test_what_is_not_text_passes_at_once_behind_what_was_held() -> None:
    """In order: facts, reasoning, a text that replaces all."""
    facts, thought = Metadata({"k": 1}), Reasoning("hm.")
    assert cut(thought, "One", facts, "two", WholeText("One, two")) == [
        thought,
        Text("One"),
        facts,
        Text("two"),
        WholeText("One, two"),
        END,
    ]


def test_an_answer_of_a_megabyte_in_one_token_is_cut_in_one_walk() -> None:
    """Its cost grows with its length and no faster."""
    assert len(cut("x" * 1_000_000)) == 5001


def test_discreet_leaves_out_facts_alone() -> None:
    """Everything else passes as it came."""
    batch = [Metadata({"k": 1}), Text("a"), Reasoning("b"), END]
    assert Discreet().feed(batch) == batch[1:]
