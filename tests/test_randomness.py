"""Names that nobody can guess: their length, their characters, and that no character comes more often."""

import pytest

from gateway import randomness
from gateway.randomness import Names


@pytest.mark.parametrize(("alphabet", "length"), [("0123456789abcdef", 16), ("ab", 22), ("abc", 5000)])
def test_a_name_has_its_length_and_its_alphabet(alphabet: str, length: int) -> None:
    """Also where it is longer than what the kernel is asked for at once."""
    names = Names(alphabet, length)
    for _ in range(3):
        name = names.new()
        assert len(name) == length
        assert set(name) <= set(alphabet)


def test_no_name_comes_twice() -> None:
    """Neither within a block nor across blocks."""
    names = Names("0123456789abcdef", 16)
    count = 3 * randomness.BLOCK_BYTES // 16
    assert len({names.new() for _ in range(count)}) == count


def test_every_character_has_the_same_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value of a byte once: all characters come equally often, and the values left over are not used."""
    monkeypatch.setattr(randomness, "urandom", lambda count: bytes(range(256)))
    name = Names("abc", 255).new()
    assert [name.count(character) for character in "abc"] == [85, 85, 85]


def test_names_are_cut_from_what_the_kernel_gives_and_nothing_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, the rest of a block before the next one."""
    blocks = [b"\x00\x01\x02", b"\x03\x00\x01"]
    monkeypatch.setattr(randomness, "urandom", lambda count: blocks.pop(0))
    names = Names("abcd", 2)
    assert [names.new(), names.new(), names.new()] == ["ab", "cd", "ab"]
