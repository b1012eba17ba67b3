"""Library and its reading of Markdown: the right section for a question, quoted so that it reads well."""

from pathlib import Path

import pytest

from gateway.app.answers import documents
from gateway.sources.markdown import Passage, prose, rows, sections
from gateway.sources.passages import Library

README_AND_DOCS = Library.of_files(documents(["README.md", "docs"]))

MANUAL = """\
A preface.

# Manual

## How to wash it

Use water. See [soap](soap.md).

| Part | Colour | Care |
| --- | --- | --- |
| `MAX_HEAT` | red | Never more. |
| `plain` | blue | Anything. |

## How to dry it

Use air.

```bash run
# not a heading
dry --now
```
"""


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("How does resume work?", "How resume works"),
        ("What happens when the provider fails?", "What happens when the provider fails"),
        ("Which metrics are there?", "Which metrics are there"),
        ("What happens to a slow reader?", "What happens to a slow reader"),
        ("how do i run it behind nginx", "How to run it behind nginx"),
        ("How do I use it with an OpenAI client?", "How to use it with an OpenAI client"),
        ("Which events are there?", "Which events are there"),
        ("Can I stop an answer?", "How to stop an answer"),
        ("How do I configure it?", "How to configure it"),
        ("How much memory does it need?", "How much memory it takes"),
        ("Does it support Redis?", "Redis"),
        ("How do I add a new source?", "How to add a source"),
        ("Why do tokens arrive in lumps?", "Tokens arrive in lumps"),
        ("What is an idempotency key for?", "How to ask twice and be answered once"),
        ("What happens on SIGTERM?", "How it shuts down, and how to deploy a new version"),
        ("What is this?", "sse-gateway"),
    ],
)
def test_a_natural_question_finds_its_section(question: str, title: str) -> None:
    """The project's own documents answer what people ask first, and what the chat page suggests."""
    assert README_AND_DOCS.search(question)[0].title == title


def test_every_question_of_the_chat_page_has_an_answer_without_table_or_link_syntax() -> None:
    """What is quoted reads as prose: no table rows, no link targets, no pictures, code fences closed."""
    page = (Path(__file__).parents[2] / "gateway" / "static" / "index.html").read_text("utf-8")
    questions = [part.split('"')[0] for part in page.split('data-question="')[1:]]
    assert len(questions) >= 4
    for question in questions:
        text = README_AND_DOCS.answer(question).text
        assert 300 < len(text) < 3000, question
        assert "\n|" not in text
        assert "](" not in text
        assert "<img" not in text
        assert text.count("```") % 2 == 0


def test_a_name_from_a_table_is_answered_with_its_row_first() -> None:
    """Whoever asks for a code or a setting gets its meaning, not only the section around it."""
    answer = README_AND_DOCS.answer("What does STORE_FULL mean?").text
    assert answer.startswith(
        "`STORE_FULL`: Live streams fill the memory set aside for logs. (status 503, retryable yes)"
    )
    assert README_AND_DOCS.answer("what is stream.silence_s").text.startswith("`stream.silence_s`: ")


def test_the_same_question_has_the_same_answer_in_another_library() -> None:
    """A process that takes over, or a second run, says the same, byte for byte."""
    again = Library.of_files(documents(["README.md", "docs"]))
    for question in ("How does resume work?", "log", "stream reader token", "xyzzy"):
        assert again.answer(question) == README_AND_DOCS.answer(question)


def test_the_answer_says_where_it_is_from() -> None:
    """Sources are named in the text and, for machines, beside it."""
    answer = Library(sections("manual.md", MANUAL)).answer("How do I dry it?")
    assert answer.text.endswith("(From “How to dry it” in manual.md.)")
    assert answer.sources == ("manual.md#How to dry it",)


def test_nothing_found_is_said_and_helps_on() -> None:
    """No passage is forced on a question that it does not fit; instead there are questions that work."""
    answer = Library(sections("manual.md", MANUAL)).answer("Who wrote Hamlet?")
    assert answer.sources == ()
    assert "found nothing" in answer.text
    assert "“How to wash it”, “How to dry it”" in answer.text


@pytest.mark.parametrize(
    "question", ["", "   ", "???", "_", '"', "NEAR AND OR NOT", 'a" OR title:"x', "🙂" * 9, "\x00"]
)
def test_no_question_can_break_the_search(question: str) -> None:
    """Whatever is asked is text, never a query language; there is always an answer."""
    assert Library(sections("manual.md", MANUAL)).answer(question).text


def test_an_empty_library_says_so() -> None:
    """Without documents beside it, an installed gateway still answers."""
    library = Library.of_files([Path("nowhere.md")])
    assert "none were found" in library.answer("How does resume work?").text
    assert "none were found" in library.answer("What is this?").text


def test_a_short_title_wins_over_a_long_body() -> None:
    """A section named after the question comes before one that mentions it often."""
    chatty = Passage("b.md", "Something else altogether", "drying " * 30)
    named = Passage("b.md", "Drying", "It dries.")
    assert Library([chatty, named]).search("drying")[0] is named


def test_equal_passages_keep_the_order_of_the_documents() -> None:
    """Ties are never decided by chance."""
    twins = [Passage("a.md", "Drying", "It dries."), Passage("b.md", "Drying", "It dries.")]
    assert Library(twins).search("drying") == twins


def test_a_passage_that_fits_far_worse_is_not_quoted() -> None:
    """One good section is better than a good one and a random one."""
    named = Passage("a.md", "Drying", "It dries.")
    passing = Passage("a.md", "Storing", "Cups, plates, forks, knives, and after drying also towels. " + "Words. " * 50)
    assert Library([passing, named]).search("drying") == [named]


def test_sections_end_at_headings_but_not_inside_code() -> None:
    """A comment in a script is no heading; text before the first heading belongs to the document."""
    found = list(sections("manual.md", MANUAL))
    assert [passage.title for passage in found] == ["manual.md", "How to wash it", "How to dry it"]
    assert "# not a heading" in found[2].body


def test_prose_joins_lines_and_keeps_lists_and_code() -> None:
    """Lines wrapped for the editor become one line; items and code keep theirs; a table gives its names."""
    body = "One\ntwo.\n\n- first\n  goes on\n- second\n\n```bash run\na\n\nb\n```\n\n| N | M |\n| - | - |\n| `x` | y |"
    assert prose(body) == "One two.\n\n- first goes on\n- second\n\n```bash\na\n\nb\n```\n\nN: `x`."


def test_prose_ends_with_a_whole_block() -> None:
    """A long section is cut between blocks, never in the middle of code, and says that it goes on."""
    code = "```text\n" + "line\n\n" * 400 + "```"
    assert prose(f"Before.\n\n{code}\n\nBehind.") == f"Before.\n\n{code}\n\n…"


def test_rows_are_told_for_technical_names_only() -> None:
    """An ordinary word in a table does not answer every question that holds it."""
    body = next(passage.body for passage in sections("manual.md", MANUAL) if passage.title == "How to wash it")
    assert dict(rows(body)) == {"MAX_HEAT": "`MAX_HEAT`: Never more. (colour red)"}
