"""Library: finds the passages of a set of Markdown documents that answer a question (SQLite FTS5, BM25)."""

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.sources.markdown import Passage, prose, rows, sections

_WORD = re.compile(r"\w+")
_NAME = re.compile(r"\w[\w./-]*\w")
_STOPWORDS = frozenset(
    """
    a about all an and any are as at be been but by can could did do does explain for from get give had happen happens
    has have he help her him how i if in into is it its let like may me mean means might my no not of on one or our
    please she should show so some tell than that the their them then there these they this to up us use used want was
    we were what when where which who why will with work works would you your
    """.split()  # noqa: SIM905  # a list of a hundred quoted words reads worse
)
_ASKED = ("How ", "What happens ")
SUGGESTIONS_MAX = 6
PASSAGES_MAX = 2
WORDS_MAX = 32
TITLE_WEIGHT = 3.0
SECOND_BEST = 0.7
"""A second passage is quoted when it fits at least this well, compared to the best."""

_SEARCH = """
    SELECT rowid, sum(score) AS total FROM (
        SELECT rowid, bm25(titles) * :weight AS score FROM titles WHERE titles MATCH :query
        UNION ALL
        SELECT rowid, bm25(bodies) FROM bodies WHERE bodies MATCH :query
    ) GROUP BY rowid ORDER BY total, rowid LIMIT :max
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, as text, and where."""

    text: str
    sources: tuple[str, ...]


class Library:
    """Passages, searchable. A match in a short title counts for more than one in a long one, or in the body."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        known = list(passages)
        self._passages = [passage for passage in known if prose(passage.body)]
        self._rows = dict(row for passage in known for row in rows(passage.body))
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        # Two indexes, because BM25 weighs a match by the length of the whole row; and without the names in tables,
        # which would make a long list look like the best answer.
        self._fill("titles", (passage.title for passage in self._passages))
        self._fill("bodies", (prose(passage.body, tables=False) for passage in self._passages))

    def _fill(self, table: str, texts: Iterable[str]) -> None:
        self._index.execute(f"CREATE VIRTUAL TABLE {table} USING fts5(text, tokenize='porter unicode61')")
        self._index.executemany(f"INSERT INTO {table}(rowid, text) VALUES (?, ?)", enumerate(texts))

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> "Library":
        """The sections of these Markdown files; files that are not there are left out."""
        return cls(
            passage for path in paths if path.is_file() for passage in sections(path.name, path.read_text("utf-8"))
        )

    def answer(self, question: str) -> Answer:
        """What tables say of the names in the question, and the passages that fit best; or that there is nothing."""
        named = self.named(question)
        found = self.search(question)[: 1 if named else PASSAGES_MAX]
        if not found:
            return Answer(self._nothing(), ())
        where = " and ".join(f"“{passage.title}” in {passage.document}" for passage in found)
        quoted = [prose(found[0].body), *(f"**{other.title}.** {prose(other.body)}" for other in found[1:])]
        parts = [*named, *quoted, f"(From {where}.)"]
        return Answer("\n\n".join(parts), tuple(f"{passage.document}#{passage.title}" for passage in found))

    def named(self, question: str) -> list[str]:
        """The rows of tables whose names are in the question, spelt as in the table."""
        return [self._rows[name] for name in dict.fromkeys(_NAME.findall(question)) if name in self._rows]

    def search(self, question: str) -> list[Passage]:
        """The best passages, best first, ties in the order of the documents. A question without words that say
        anything ("What is this?") is answered by the first passage.
        """
        words = [word.lower() for word in _WORD.findall(question)]
        wanted = sorted(set(words) - _STOPWORDS)[:WORDS_MAX]
        if not wanted:
            return self._passages[:1] if words else []
        query = " OR ".join(f'"{word}"' for word in wanted)
        found = self._index.execute(_SEARCH, {"query": query, "weight": TITLE_WEIGHT, "max": PASSAGES_MAX}).fetchall()
        # The better the match, the lower the score; they are all below zero.
        return [self._passages[number] for number, score in found if score <= found[0][1] * SECOND_BEST]

    def _nothing(self) -> str:
        if not self._passages:
            return "I answer from the gateway's own documents, but none were found beside it."
        titles = [passage.title for passage in self._passages if passage.title.startswith(_ASKED)][:SUGGESTIONS_MAX]
        return (
            "I am the gateway's built-in answerer: I only know its own documents, and found nothing there about that. "
            f"You could ask: {', '.join(f'“{title}”' for title in titles or [self._passages[0].title])}."
        )
