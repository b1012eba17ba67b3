"""What the tests at scale share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.load import hang_up_all, raise_descriptor_limit

raise_descriptor_limit()


@pytest.fixture(autouse=True)
async def nobody_stays() -> AsyncIterator[None]:
    """Clients of one test are not there in the next one."""
    yield
    await hang_up_all()


@pytest.fixture
def documents(tmp_path: Path) -> str:
    """A document of our own for the local source: the project's own ones change, and with them the answers."""
    return songs(tmp_path)


def songs(folder: Path) -> str:
    """A document with a song for each word."""
    path = folder / "songs.md"
    path.write_text("".join(f"# Song {word}\n\n{verses(word)}\n\n" for word in WORDS), "utf-8")
    return str(path)


WORDS = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel")


def verses(word: str) -> str:
    """Some two hundred tokens that are this word's own."""
    return " ".join(f"{word} verse {number} has leaves," for number in range(50)) + " and so on."
