"""What holds for every journey: it takes longer than other tests, and needs nginx."""

from pathlib import Path

import pytest

from fleet.edge import MISSING


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For all in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
            item.add_marker(pytest.mark.skipif(MISSING, reason="nginx or openssl is not installed"))
