"""Rooms that are closed behind the test."""

from collections.abc import Callable, Iterator

import pytest

from tests.admission.room import Bench


@pytest.fixture
def room() -> Iterator[Callable[..., Bench]]:
    """Makes rooms by their settings."""
    made: list[Bench] = []

    def make(**settings: object) -> Bench:
        made.append(Bench(**settings))
        return made[-1]

    yield make
    for bench in made:
        bench.close()
