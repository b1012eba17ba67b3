"""Told: how much of an answer was said, in all the ways in which it can be bounded."""

from typing import NamedTuple

from gateway.stages.prose import count_words


class Told(NamedTuple):
    """How much was said: `size` is in characters, of all content; `carry` is what a word may go on with."""

    words: int = 0
    size: int = 0
    bytes: int = 0
    carry: str = ""

    def plus(self, text: str, beside: int = 0) -> "Told":
        """With this text, and content of that size beside it."""
        words, carry = count_words(text, self.carry) if text else (0, self.carry)
        size = beside + len(text)
        more = size if text.isascii() else beside + len(text.encode("utf-8", "surrogatepass"))
        return Told(self.words + words, self.size + size, self.bytes + more, carry)


NOTHING = Told()
