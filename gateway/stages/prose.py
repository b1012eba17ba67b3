"""Prose: where words and sentences end, as far as that can be told without a dictionary."""

import re

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED += "\uff66-\uff9f\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, kana and Han, which put no spaces between words."""
_POINTS = "\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"

_WORD = re.compile(rf"[^\s{_UNSPACED}{_POINTS}]+|[{_UNSPACED}]{{1,2}}")
"""What stands between spaces, and two letters of a script that has none."""

CLOSERS = "\"'”’»)]*_）」』"
"""What may stand between a sentence's last point and the space behind it."""

_LETTER = re.compile(f"[{_UNSPACED}]")

_END = re.compile(rf"[.!?…]+[{re.escape(CLOSERS)}]*(?=\s)|[。！？।॥؟۔]+[{re.escape(CLOSERS)}]*|(?=\n)")
"""A full stop tells itself from a decimal point by the space behind it."""

_NO_END = re.compile(
    r"(?:(?<![^\W\d_])(?:[^\W\d_]|e\.g|i\.e|z\.b|d\.h|u\.a|dr|mrs?|ms|prof|st|vs|cf|fig|nos?|nr|bzw|ca|vgl|approx)"
    r"|(?:^|\n)\s*\d+)\.$",
    re.IGNORECASE,
)
"""Full stops of abbreviations, initials and the numbers of lists."""

CONTEXT = 24
"""Characters before a full stop that are looked at."""


def count_words(text: str, carry: str = "") -> tuple[int, str]:
    """The words in `text`, and what to give as `carry` with the text behind it: a word may go on there.

    The word that `carry` stands for was counted before.
    """
    text = carry + text
    # Most text, and the short way: the same count.
    found = text.split() if text.isascii() else _WORD.findall(text)
    open_end = ""
    if found and text.endswith(found[-1]):
        unspaced = is_unspaced(found[-1])
        open_end = found[-1][-1] if not unspaced or len(found[-1]) == 1 else ""
    return len(found) - bool(carry), open_end


def is_unspaced(word: str) -> bool:
    """Whether a word is of a script without spaces, so that a text may be cut behind each letter."""
    return _LETTER.match(word) is not None


def end_of_word(text: str, count: int, carry: str = "") -> int:
    """Where the first `count` words of `text` end; all of it where there are no more. For `carry` see `count_words`."""
    end = 0
    for number, found in enumerate(_WORD.finditer(carry + text), 1 - bool(carry)):
        if number > count:
            return end
        end = max(0, found.end() - len(carry))
    return len(text)


def last_word(text: str, upto: int) -> int:
    """Where the last word ends that does so at or before `upto`; `upto` itself where none does."""
    ends = [found.end() for found in _WORD.finditer(text[: upto + 1]) if found.end() <= upto]
    return ends[-1] if ends else upto


def last_sentence(text: str, start: int, upto: int, look_from: int = 0) -> int | None:
    """Where the last sentence or line ends that does so between `start` and `upto`; None where none does.

    What comes behind `upto` is looked at too: it tells a sentence's end from an abbreviation's. No end need be found
    that lies before `look_from`.
    """
    found = None
    for match in _END.finditer(text, look_from):
        end = match.end()
        if end > upto:
            break
        if end >= start and not _NO_END.search(text, max(0, end - CONTEXT), end):
            found = end
    return found
