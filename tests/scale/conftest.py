"""What the tests at scale share."""

from pathlib import Path

import pytest

from tests.load import raise_descriptor_limit

raise_descriptor_limit()


@pytest.fixture
def documents(tmp_path: Path) -> str:
    """A document of our own for the local source: the project's own ones change, and with them the answers."""
    path = tmp_path / "songs.md"
    path.write_text("".join(f"# Song {word}\n\n{verses(word)}\n\n" for word in WORDS), "utf-8")
    return str(path)


WORDS = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel")


def verses(word: str) -> str:
    """Some two hundred tokens that are this word's own."""
    return " ".join(f"{word} verse {number} has leaves," for number in range(50)) + " and so on."
