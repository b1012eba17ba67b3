"""Names of streams and places: 128 random bits, and a syntax with no second spelling."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.streams.ids import SID_PATTERN, Place, new_sid, parse_place

SID = "0123456789abcdefABCDEF"


def test_names_of_streams_never_meet_and_hold_128_bits() -> None:
    """Each is 22 letters and digits, no two alike, and every position but the first varies freely."""
    names = {new_sid() for _ in range(2000)}
    assert len(names) == 2000
    assert all(re.fullmatch(SID_PATTERN, name) for name in names)
    assert all(len({name[at] for name in names}) > 50 for at in range(21))


@given(st.integers(1, 999_999_999), st.integers(0, 999_999_999_999_999))
def test_a_place_survives_the_wire(epoch: int, seq: int) -> None:
    """What the encoder writes is what comes back."""
    assert parse_place(f"{SID}-{epoch}-{seq}") == Place(SID, epoch, seq)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        SID,
        f"{SID}-1",
        f"{SID}-1-",
        f"{SID}-0-1",
        f"{SID}-01-1",
        f"{SID}-1-01",
        f"{SID}-1--1",
        f"{SID}-1-1 ",
        f" {SID}-1-1",
        f"{SID}-1-1\n",
        f"{SID}-1-1-1",
        f"{SID}x-1-1",
        f"{SID[:-1]}-1-1",
        f"{SID[:-1]}é-1-1",
        f"{SID}-1-١",
        f"{SID}-1-1e3",
        f"{SID}-1-{'9' * 16}",
        f"{SID}-{'9' * 10}-1",
        f"{SID}-1-1\0",
        "x" * 100_000,
    ],
)
def test_anything_else_is_refused_without_an_echo(text: str) -> None:
    """One code for all of it, and nothing of what was sent in the message."""
    with pytest.raises(GatewayError) as raised:
        parse_place(text)
    assert raised.value.code is Code.INVALID_EVENT_ID
    assert not text or len(text) < 3 or text not in raised.value.message


@given(st.text(max_size=60))
def test_no_text_at_all_crashes_the_parser(text: str) -> None:
    """A place that spells out to the very same text, or a refusal; nothing else."""
    with contextlib.suppress(GatewayError):
        place = parse_place(text)
        assert f"{place.sid}-{place.epoch}-{place.seq}" == text
