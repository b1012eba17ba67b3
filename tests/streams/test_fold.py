"""Folding: fewer records, the same content."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Event, Metadata, Reasoning, Record, Text, WholeText
from gateway.streams.fold import FOLDED_MAX_CHARACTERS, fold


def records(*events: Event) -> list[Record]:
    """Events at places 1, 2, 3 …"""
    return [Record(seq, event) for seq, event in enumerate(events, 1)]


def told(items: list[Record]) -> str:
    """The text as a client keeps it."""
    text = ""
    for _, event in items:
        if isinstance(event, Text):
            text = event.token if isinstance(event, WholeText) else text + event.token
    return text


EVENTS = st.lists(
    st.one_of(
        st.builds(Text, st.text(max_size=3)),
        st.builds(WholeText, st.text(max_size=3)),
        st.builds(Reasoning, st.text(max_size=3)),
        st.just(Metadata({})),
    ),
    max_size=30,
)


def test_neighbours_are_joined_under_the_id_of_the_last() -> None:
    """Text with text, reasoning with reasoning; what stands between them keeps them apart."""
    folded = fold(records(Text("a"), Text("b"), Metadata({}), Text("c"), Reasoning("x"), Reasoning("y"), Text("d")))
    assert folded == [
        Record(2, Text("ab")),
        Record(3, Metadata({})),
        Record(4, Text("c")),
        Record(6, Reasoning("xy")),
        Record(7, Text("d")),
    ]


def test_a_replacement_wipes_what_it_replaces() -> None:
    """The joined piece replaces too, since what came before it is not its own."""
    folded = fold(records(Text("old"), WholeText("new"), Text("er")))
    assert folded == [Record(3, WholeText("newer"))]


def test_a_folded_piece_is_never_much_larger_than_one_write() -> None:
    """A megabyte of text becomes pieces, not one."""
    folded = fold(records(*[Text("x" * 1000) for _ in range(1000)]))
    assert told(folded) == "x" * 1_000_000
    assert max(record.event.size for record in folded) < FOLDED_MAX_CHARACTERS + 1000
    assert len(folded) < 40


def test_a_full_replacement_is_not_replaced_by_its_own_end() -> None:
    """Only the first piece of a long replacement replaces."""
    folded = fold(records(WholeText("x" * FOLDED_MAX_CHARACTERS), Text("y")))
    assert told(folded) == "x" * FOLDED_MAX_CHARACTERS + "y"


@given(EVENTS)
def test_folding_changes_no_content(events: list[Event]) -> None:
    """Text, reasoning and the places of everything else are the same, also when folded twice."""
    before = records(*events)
    after = fold(before)
    assert told(after) == told(before)
    assert [r for r in after if isinstance(r.event, Metadata)] == [r for r in before if isinstance(r.event, Metadata)]
    assert "".join(r.event.token for r in after if isinstance(r.event, Reasoning)) == "".join(
        r.event.token for r in before if isinstance(r.event, Reasoning)
    )
    assert [r.seq for r in after] == sorted({r.seq for r in after})
    assert fold(after) == after
    assert all(type(a.event) is not type(b.event) or isinstance(a.event, Metadata) for a, b in pairwise(after))
