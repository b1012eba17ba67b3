"""What the tests of delivery share."""

from collections.abc import Iterator

import pytest

from tests.delivery.bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A stream that has been opened, in a house with a heartbeat every 15 s."""
    with Bench() as bench:
        yield bench
