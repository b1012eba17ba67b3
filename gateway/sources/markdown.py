"""Markdown read just well enough to quote it: sections, the prose of a section, the rows of its tables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADING = re.compile(r"#{1,4}\s+(.*)")
_FENCE = re.compile(r"`{3,}(\w*)")
_ITEM = re.compile(r"\s*([-*]|\d+\.)\s")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|<(https?:[^>\s]+)>")
_CELL = re.compile(r"(?<!\\)\|")
_NAME = re.compile(r"`(\S*[\w]\S*)`")
_TECHNICAL = re.compile(r"[A-Z]{3,}|.*\w[_./-]\w.*")
QUOTE_MAX_CHARS = 1500
"""Quoting ends with the paragraph or block of code that reaches this length."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A section of a document; `body` is Markdown."""

    document: str
    title: str
    body: str


def sections(document: str, text: str) -> Iterator[Passage]:
    """A Markdown text cut at its headings; code stays whole, sections without words are left out."""
    title, lines, fenced = document, [], False  # type: str, list[str], bool
    for line in [*text.splitlines(), "# "]:
        fenced ^= line.startswith("```")
        heading = None if fenced else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        body = "\n".join(lines).strip()
        if re.search(r"\w", body):
            yield Passage(document, title, body)
        title, lines = _plain(heading[1].strip()), []


def prose(body: str, *, tables: bool = True) -> str:
    """A section as it can be said aloud: paragraphs in one line, code as it is, no pictures, of tables the names."""
    said: list[str] = []
    for block in _blocks(body):
        if sum(map(len, said)) > QUOTE_MAX_CHARS:
            said.append("…")
            break
        if fence := _FENCE.match(block[0]):
            said.append("\n".join([f"```{fence[1]}", *block[1:]]))
        elif block[0].startswith("|"):
            said += _names(block) if tables else []
        elif not block[0].startswith(("<", "![")):
            said.append(_plain(_unwrapped(block)))
    return "\n\n".join(said)


def rows(body: str) -> Iterator[tuple[str, str]]:
    """The rows of a section's tables that stand for a technical name, each as (name, sentence)."""
    for block in _blocks(body):
        if not block[0].startswith("|") or len(block) < 3:
            continue
        header = _cells(block[0])
        for line in block[2:]:
            first, *others = _cells(line)
            name = _NAME.fullmatch(first)
            if name and others and _TECHNICAL.fullmatch(name[1]):
                beside = [f"{head.lower()} {cell}" for head, cell in zip(header[1:-1], others, strict=False) if cell]
                yield name[1], f"{first}: {others[-1]}" + (f" ({', '.join(beside)})" if beside else "")


def _blocks(body: str) -> Iterator[list[str]]:
    """What blank lines divide, and code from fence to fence, as lines."""
    block: list[str] = []
    fenced = False
    for line in body.splitlines():
        if line.startswith("```"):
            if not fenced and block:
                yield block
                block = []
            fenced = not fenced
            block.append(line)
            if not fenced:
                yield block
                block = []
        elif line.strip() or fenced:
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _unwrapped(block: list[str]) -> str:
    """One line for each paragraph or item of a list."""
    text = block[0].strip()
    for line in block[1:]:
        text += ("\n" if _ITEM.match(line) else " ") + line.strip()
    return text


def _names(table: list[str]) -> list[str]:
    """What a table is about, where its first column holds names; read aloud whole it would be tiresome."""
    first = [_cells(line)[0] for line in table]
    return [f"{first[0]}: {', '.join(first[2:])}."] if all(cell.startswith("`") for cell in first[2:]) else []


def _plain(text: str) -> str:
    """Links as their words."""
    return _LINK.sub(lambda link: link[1] or link[2] or "", text)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in _CELL.split(line.strip().strip("|"))]
