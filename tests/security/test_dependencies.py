"""Dependencies: what is installed is what was looked at, and nothing older than the last known hole."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.documents import ROOT

LOCKS = sorted(ROOT.glob("requirements*.lock"))
FLOORS = {
    "aiohttp": (3, 14, 5),
    "redis": (8, 1),
    "uvloop": (0, 23),
    "orjson": (3, 11),
    "pyjwt": (2, 15),
    "cryptography": (46,),
    "certifi": (2026, 10),
}
"""Below these stand request smuggling and over-reads of the parser (aiohttp), answers that go astray (redis before 5,
uvloop), a recursion without bound (orjson), algorithms that are taken for others (pyjwt), and roots that are no longer
trusted (certifi)."""


class Requirement(NamedTuple):
    """One entry of a lock file."""

    name: str
    version: tuple[int, ...]
    hashes: list[str]


def requirements(path: Path) -> list[Requirement]:
    """All that a lock file names. Anything else in it that is no comment fails."""
    joined = re.sub(r"\\\n\s*", "", path.read_text("utf-8"))
    found = []
    for line in joined.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = re.fullmatch(
            r"([a-z0-9-]+)==([0-9][\w.]*)(?: ; [^\\]*?)?((?:\s*--hash=sha256:[0-9a-f]{64})+)\s*(?:#.*)?", line
        )
        assert entry, f"{path.name}: {line[:80]}"
        version = tuple(int(part) for part in re.findall(r"\d+", entry[2]))
        found.append(Requirement(entry[1], version, re.findall(r"[0-9a-f]{64}", entry[3])))
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_by_hash_and_no_lock_says_from_where(path: Path) -> None:
    """So that a registry, or whoever sits before it, can at most refuse: another file is not installed."""
    locked = requirements(path)
    assert locked
    assert all(entry.hashes for entry in locked)
    assert len({entry.name for entry in locked}) == len(locked)
    assert "://" not in path.read_text("utf-8")


def test_nothing_that_runs_is_older_than_its_last_known_hole() -> None:
    """In the locks, and in what the project allows at all."""
    allowed = (ROOT / "pyproject.toml").read_text("utf-8")
    for path in LOCKS:
        for entry in requirements(path):
            assert entry.version >= FLOORS.get(entry.name, ()), (path.name, entry.name)
    for name in ("aiohttp", "redis", "uvloop", "orjson", "pyjwt", "certifi"):
        floor = re.search(rf'"{name}(?:\[\w+\])?>=([0-9.]+)"', allowed)
        assert floor, name
        assert tuple(map(int, floor[1].split("."))) >= FLOORS[name], name


def test_what_is_tested_is_what_runs() -> None:
    """The development lock holds the same versions as the one that is installed to serve."""
    by_name = {path.name: {entry.name: entry.version for entry in requirements(path)} for path in LOCKS}
    runtime, development = by_name["requirements.lock"], by_name["requirements-dev.lock"]
    assert {name: development.get(name) for name in runtime} == runtime


def test_installing_asks_for_the_hashes() -> None:
    """Whichever way the setup installs a lock."""
    setup = (ROOT / "tools" / "setup.sh").read_text("utf-8")
    installs = [line for line in setup.splitlines() if "pip install" in line]
    assert len(installs) >= 3
    assert all("--require-hashes -r" in line for line in installs), installs
