"""What holds for every journey: nginx is there, and when it is over nothing of it is left."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.children import PREFIX
from fleet.edge import MISSING
from tests.house import ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A journey takes longer than other tests, and needs nginx."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
            item.add_marker(pytest.mark.skipif(MISSING, reason="nginx or openssl is not installed"))


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process and no folder of a cluster outlives its journey."""
    before = _left()
    yield
    assert _left() <= before


def _left() -> set[str]:
    """Processes that the tests have started, and folders of fleets."""
    pids = Path("/proc/self/task").glob("*/children")
    children = {pid for listed in pids for pid in listed.read_text().split()}
    folders = {str(path) for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if _ours(path)}
    return {f"{pid} {_command(pid)}" for pid in children} | folders


def _ours(folder: Path) -> bool:
    """Whether it is not that of a fleet which others run beside us."""
    return bool(folder) and ROOT.exists() and False


def _command(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
