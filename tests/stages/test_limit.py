"""The limit of output: an answer that never ends is ended by us, as a failure."""

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Metadata, Text
from gateway.stages.base import Chain
from tests.doubles import END, uncapped


def test_content_up_to_the_limit_passes_unchanged() -> None:
    """To the last byte; what is no content does not count."""
    limit = uncapped(10)
    batch = [Text("12345"), Metadata({"x": "y" * 100}), Text("67890"), END]
    assert limit.feed(batch) is batch
    assert limit.feed([END]) == [END]


@pytest.mark.parametrize("batches", [[["123456"], ["78901"]], [["1"] * 11], [["x" * 11]]])
def test_one_byte_more_is_a_failure(batches: list[list[str]]) -> None:
    """However it is cut."""
    limit = uncapped(10)
    *first, last = [[Text(token) for token in batch] for batch in batches]
    for batch in first:
        limit.feed(batch)
    with pytest.raises(GatewayError) as raised:
        limit.feed(last)
    assert raised.value.code is Code.OUTPUT_LIMIT


def test_a_chain_of_nothing_changes_nothing() -> None:
    """And costs nothing."""
    batch = [Text("a")]
    assert Chain([]).feed(batch) is batch
