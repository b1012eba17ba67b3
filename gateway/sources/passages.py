"""Library: finds the passages of a set of Markdown documents that answer a question (SQLite FTS5, BM25)."""

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_HEADING = re.compile(r"^(#{1,4})\s+(.*)$")
_WORD = re.compile(r"\w+", re.UNICODE)
_STOPWORDS = frozenset(
    """
    a about an and any are as at be been but by can could do does for from had has have he her him how i if in into
    is it its let like may me mean might my no not of on or our please she should so some tell than that the their
    them then there these they this to up us was we were what when where which who why will with would you your
    """.split()  # noqa: SIM905  # a list of a hundred quoted words reads worse
)
PASSAGES = 2
PASSAGE_MAX_CHARS = 1500


@dataclass(frozen=True, slots=True)
class Passage:
    """A section of a document."""

    document: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, as text, and where."""

    text: str
    sources: tuple[str, ...]


class Library:
    """Passages, searchable. Title words weigh eight times as much as words of the body."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._passages = list(passages)
        self._index = sqlite3.connect(":memory:", check_same_thread=False)
        self._index.execute("CREATE VIRTUAL TABLE passages USING fts5(title, body, tokenize='porter unicode61')")
        rows = ((number, passage.title, passage.body) for number, passage in enumerate(self._passages))
        self._index.executemany("INSERT INTO passages(rowid, title, body) VALUES (?, ?, ?)", rows)

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> "Library":
        """The sections of these Markdown files; files that are not there are left out."""
        return cls(
            passage for path in paths if path.is_file() for passage in sections(path.name, path.read_text("utf-8"))
        )

    def answer(self, question: str) -> Answer:
        """The best passages for the question, or an honest word that there is none."""
        found = self.search(question)
        if not found:
            return Answer(self._nothing(), ())
        parts = [f"From “{passage.title}” in {passage.document}:\n\n{_cut(passage.body)}" for passage in found]
        sources = tuple(f"{passage.document}#{passage.title}" for passage in found)
        return Answer("\n\n".join(parts), sources)

    def search(self, question: str) -> list[Passage]:
        """At most two passages, best first; ties are decided by their order in the documents."""
        words = sorted({word.lower() for word in _WORD.findall(question)} - _STOPWORDS)
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in words[:32])
        rows = self._index.execute(
            "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, 8.0, 1.0), rowid LIMIT ?",
            (query, PASSAGES),
        )
        return [self._passages[number] for (number,) in rows]

    def _nothing(self) -> str:
        titles = ", ".join(f"“{passage.title}”" for passage in self._passages[:6])
        if not titles:
            return "I answer from the gateway's own documents, but none were found beside it."
        return (
            "I am the gateway's built-in answerer: I only know its own documents, and found nothing there about that. "
            f"You could ask about {titles}."
        )


def sections(document: str, text: str) -> list[Passage]:
    """A Markdown text cut at its headings; code blocks stay whole, sections without words are left out."""
    passages: list[Passage] = []
    title, fenced = document, False
    lines: list[str] = []

    def close() -> None:
        body = "\n".join(lines).strip()
        if _WORD.search(body):
            passages.append(Passage(document, title, body))

    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        heading = None if fenced else _HEADING.match(line)
        if heading:
            close()
            title, lines = heading[2].strip(), []
        else:
            lines.append(line)
    close()
    return passages


def _cut(body: str) -> str:
    """The passage up to about `PASSAGE_MAX_CHARS`, ended at a paragraph."""
    if len(body) <= PASSAGE_MAX_CHARS:
        return body
    end = body.rfind("\n\n", 0, PASSAGE_MAX_CHARS)
    return body[: end if end > 0 else PASSAGE_MAX_CHARS].rstrip() + "\n\n…"
