"""The documentation, read as data: its tables, its blocks of code, its links."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EXPECTED = re.compile(r"^(?:#|//) → (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block; `marks` are the words behind its language, such as `run`."""

    document: str
    line: int
    language: str
    marks: tuple[str, ...]
    code: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def expected(self) -> list[str]:
        """What the output is said to hold, in lines like `# → this`."""
        return EXPECTED.findall(self.code)


def text_of(name: str) -> str:
    """A document by its file name."""
    return next(path for path in DOCUMENTS if path.name == name).read_text("utf-8")


def blocks() -> list[Block]:
    """Every fenced block of every document."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for match in re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(path.name, line, match[1], tuple(match[2].split()), match[3]))
    return found


def table(document: str, *header: str) -> dict[str, dict[str, str]]:
    """The rows of the one table with this header, by their first cell without its backticks."""
    lines = text_of(document).splitlines()
    starts = [number for number, line in enumerate(lines) if _cells(line) == list(header)]
    assert len(starts) == 1, f"{document} has {len(starts)} tables with the columns {header}"
    rows: dict[str, dict[str, str]] = {}
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        cells = _cells(line)
        assert len(cells) == len(header), line
        name = cells[0].strip("`")
        assert name not in rows, f"{name} stands twice in {document}"
        rows[name] = dict(zip(header, cells, strict=True))
    return rows


def names_in(cell: str) -> set[str]:
    """The names in backticks in a cell; of `replace: true` the name alone."""
    return {name.split(":")[0] for name in re.findall(r"`([^`]+)`", cell)}


def prose_of(path: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(path: Path) -> list[str]:
    """The targets of links and pictures."""
    text = prose_of(path)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)


def anchors(path: Path) -> set[str]:
    """The names that a forge gives to the headings."""
    headings = re.findall(r"^#+\s+(.*)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _cells(line: str) -> list[str]:
    if not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
