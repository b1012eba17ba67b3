"""Seam: what is really new in an answer that goes on behind a text; models repeat their last words, or begin again."""

from gateway.events import Event, Text, TextComplete
from gateway.sources.base import Batch, Outlet

OVERLAP_MIN = 12
"""Characters that must be the same before they count as repeated: fewer may well be what comes next."""

OVERLAP_MAX = 1000
"""Characters of the text's end in which the beginning of a repetition is looked for."""

RESTART_MIN = 40
"""Characters that must be the same for an answer that begins again and does not end where the text does: sentences
that begin like the first one are common."""

KINDS_MIN = 4
"""Different characters in what counts as repeated: a ruler, an indentation or a row of dots may go on as it was."""


class Seam:
    """Compares the first pieces of a continuation with the end and the beginning of `text`.

    A piece is held back as long as it may be part of a repetition. What repeats is dropped: the end of the text, or
    as much of its beginning as is the same. Everything else comes through as it is, but for a space behind a space.
    """

    def __init__(self, text: str) -> None:
        self.closed = False
        """Whether it is behind us, so that everything that follows is new."""
        self._text = text.lstrip()
        self._body = self._text.rstrip()
        """Services trim the text that they go on with, so that what they say may begin with space or without."""
        self._spaced = text[-1:] == " " and not text[-2:-1].isspace()
        self._begun_at = max(0, len(self._body) - OVERLAP_MAX)
        self._held = ""
        self._again_at = 0
        """How far an answer has come that begins again; 0 where it does not, or not yet."""

    def feed(self, piece: str) -> str:
        """What of it, and of what was held back, is known to be new by now."""
        if self._again_at:
            return self._drop(piece)
        self._held += piece
        said = self._held.lstrip()
        if not said and len(self._held) < OVERLAP_MAX:
            return ""
        if said and (self._may_be_the_end(said) or self._may_be_the_beginning(said)):
            return ""
        return self.flush()

    def flush(self) -> str:
        """The rest of what was held back; nothing more can be a repetition."""
        held, self._held, self.closed = self._held, "", True
        said = held.lstrip()
        repeated = self._repeated(said)
        if repeated:
            return said[repeated:]
        if self._spaced and held[:1] == " " and not held[1:2].isspace():
            return held[1:]
        return held

    def _may_be_the_end(self, said: str) -> bool:
        """Whether more of it could make a repetition, or a longer one, of the end of the text."""
        last = len(self._body) - OVERLAP_MIN
        return 0 <= self._text.find(said, self._begun_at, len(self._text) - 1) <= last

    def _may_be_the_beginning(self, said: str) -> bool:
        """Likewise of the beginning. Once that is certain, what follows need not be held to be dropped."""
        if len(self._body) < OVERLAP_MIN or len(said) >= len(self._text) or not self._text.startswith(said):
            return False
        if len(said) < RESTART_MIN:
            return True
        if not _is_telling(said):
            return False
        self._again_at, self._held = len(said), ""
        return True

    def _repeated(self, said: str) -> int:
        """How many of these characters were said before: the longest end of the text, or its beginning."""
        text, body = self._text, self._body
        for at in range(self._begun_at, len(body) - OVERLAP_MIN + 1):
            if said.startswith(body[at:]):
                repeated = _common(said, text[at:])
                return repeated if _is_telling(said[:repeated]) else 0
        repeated = _common(said, text)
        return repeated if repeated >= RESTART_MIN and _is_telling(said[:repeated]) else 0

    def _drop(self, piece: str) -> str:
        """What of an answer that begins again is not as it was."""
        at = self._again_at
        same = _common(piece, self._text[at : at + len(piece)])
        self._again_at += same
        if same == len(piece) and self._again_at < len(self._text):
            return ""
        self.closed = True
        return piece[same:]


class Behind:
    """An outlet for what comes behind `text`: repetitions do not reach `outlet`, which is called as any."""

    def __init__(self, text: str, outlet: Outlet) -> None:
        self._seam = Seam(text)
        self._outlet = outlet

    def __call__(self, batch: Batch) -> None:
        """Take a batch; text that may be a repetition waits for the next one."""
        if not self._seam.closed:
            batch = self._new(batch)
        if batch:
            self._outlet(batch)

    def flush(self) -> None:
        """Let through what still waits: the source has ended, well or not."""
        if not self._seam.closed and (rest := self._seam.flush()):
            self._outlet([Text(rest)])

    def _new(self, batch: Batch) -> Batch:
        seam, new = self._seam, list[Event]()
        for event in batch:
            if seam.closed:
                new.append(event)
            elif type(event) is Text:
                if piece := seam.feed(event):
                    new.append(Text(piece))
            else:
                # Facts may overtake the text that waits; what belongs behind it may not.
                if (event.is_content or type(event) is TextComplete) and (rest := seam.flush()):
                    new.append(Text(rest))
                new.append(event)
        return new


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common from their beginning."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))


def _is_telling(said: str) -> bool:
    return len(set(said)) >= KINDS_MIN
