"""Checker: compares what a client saw with what it should have seen, and names each difference with its place."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fleet.readers import TERMINAL, History
from fleet.visit import Seen

REWINDS = ("GAP", "RESET", "REWIND")
"""Warnings after which a client has to forget what it has, and gets it anew."""

NEAR = 24


@dataclass(slots=True)
class Verdict:
    """What is to be said of one client. `lost` and `repeated` count events, and words that never came; `silence_s` is
    the longest pause between two pieces of text, heartbeats not counting.
    """

    number: int
    sid: str
    lost: int = 0
    repeated: int = 0
    rewinds: int = 0
    continued: int = 0
    calls: int = 0
    cuts: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    silence_s: float = 0.0
    violations: list[str] = field(default_factory=list)


def check(history: History, truth: str) -> Verdict:
    """Judge one history; `truth` is the whole text of the answer."""
    check = _Check(history, truth)
    for seen in history.events:
        check.event(seen)
    check.end()
    return check.verdict


def check_log(history: History, log: History, truth: str) -> list[str]:
    """What is wrong with the log of a stream, which must hold the answer, and the end that the client saw."""
    if log.gave_up:
        return [f"stream {history.number} ({history.sid}): its log cannot be read ({log.gave_up})"]
    found = [f"log of {line}" for line in check(log, truth).violations]
    ends = [[seen.id for seen in side.events if seen.name in TERMINAL] for side in (history, log)]
    if ends[0] != ends[1] and history.finished:
        found.append(f"stream {history.number}: the client's end is {ends[0]}, the log's is {ends[1]}")
    return found


class _Check:
    """Reads along, as a client that trusts nothing."""

    def __init__(self, history: History, truth: str) -> None:
        self._history = history
        self._truth = truth
        self._text = ""
        self._epoch = self._seq = 0
        self._fresh = True
        self._terminal: Seen | None = None
        self._text_at = 0.0
        self.verdict = Verdict(history.number, history.sid)

    def event(self, seen: Seen) -> None:
        """One event, at its place."""
        if not seen.id:
            self._notice(seen)
            return
        place = self._place(seen)
        if place is None:
            return
        epoch, seq = place
        # Where a stream went on elsewhere, a `continued` may stand at a place that this client never needed.
        hidden = epoch - self._epoch if self._epoch else 0
        gap = seq - self._seq - 1
        self._epoch, self._seq = epoch, seq
        if seen.name == "text":
            self._grow(seen, gap)
            self._silence(seen)
            return
        self._lose(gap - hidden, seen)
        if seen.name == "status" and seen.data.get("state") == "continued":
            self.verdict.continued += 1
        if seen.name in TERMINAL:
            self._ends(seen)

    def _notice(self, seen: Seen) -> None:
        """An event of this connection only; after some of them all begins anew."""
        if seen.name == "warning" and seen.data.get("code") in REWINDS:
            self.verdict.rewinds += 1
            self._epoch = self._seq = 0
            self._fresh = True

    def _place(self, seen: Seen) -> tuple[int, int] | None:
        """Its epoch and number, if it may stand here."""
        sid, epoch, seq = seen.id.split("-")
        if sid != self._history.sid:
            self._blame(seen, "belongs to another stream")
            return None
        if self._terminal is not None:
            self._blame(seen, f"comes after the terminal event {self._terminal.id}")
            self.verdict.repeated += 1
            return None
        if int(epoch) < self._epoch or int(seq) <= self._seq:
            self._blame(seen, f"comes after {self._epoch}-{self._seq}")
            self.verdict.repeated += 1
            return None
        return int(epoch), int(seq)

    def _grow(self, seen: Seen, gap: int) -> None:
        """A piece of text. Pieces may come joined, as one with the last one's id: then no text is missing."""
        if seen.data.get("replace"):
            if not self._fresh and len(seen.text) < len(self._text):
                self._blame(seen, "takes text back without a warning")
            self._text = ""
        self._fresh = False
        at = len(self._text)
        if self._truth.startswith(seen.text, at):
            self._text += seen.text
        else:
            self._astray(seen, gap)

    def _astray(self, seen: Seen, gap: int) -> None:
        """A piece that does not belong here: is it from further on, from before, or from nowhere?"""
        at = len(self._text)
        further = self._truth.find(seen.text, at)
        if further >= 0:
            self._lose(gap or len(self._truth[at:further].split()), seen)
            self._blame(seen, f"text from {at} to {further} is missing before {seen.text[:NEAR]!r}")
            self._text = self._truth[: further + len(seen.text)]
        elif seen.text in self._truth[:at]:
            self.verdict.repeated += 1
            self._blame(seen, f"{seen.text[:NEAR]!r} is there already, at {self._truth.find(seen.text)} of {at}")
        else:
            expected = self._truth[at : at + NEAR]
            self._blame(seen, f"a mixture at {at}: {seen.text[:NEAR]!r} and not {expected!r}")

    def _silence(self, seen: Seen) -> None:
        if self._text_at:
            self.verdict.silence_s = max(self.verdict.silence_s, seen.at - self._text_at)
        self._text_at = seen.at

    def _lose(self, count: int, seen: Seen) -> None:
        if count > 0:
            self.verdict.lost += count
            self._blame(seen, f"{count} missing before it")

    def _ends(self, seen: Seen) -> None:
        self._terminal = seen
        if seen.name == "error":
            self._blame(seen, f"an error: {seen.data.get('code')}: {seen.data.get('message')}")
        elif seen.data.get("status") != "completed":
            self._blame(seen, f"the answer is {seen.data.get('status')} ({seen.data.get('finish_reason')})")

    def end(self) -> None:
        """What can be said only when all has been seen."""
        verdict, calls = self.verdict, self._history.calls
        verdict.calls, verdict.cuts = len(calls), sum(not call.whole for call in calls)
        verdict.refused = Counter(call.status for call in calls if call.status not in (0, 200))
        if self._terminal is None:
            why, last = self._history.gave_up or "it stopped", self._history.last_id.partition("-")[2]
            self._say(f"no terminal event ({why}; the last one is {last or 'none'})")
        if missing := self._truth[len(self._text) :].split():
            verdict.lost += len(missing)
            self._say(f"the text ends at {len(self._text)} of {len(self._truth)}: {len(missing)} words are missing")

    def _blame(self, seen: Seen, what: str) -> None:
        self._say(f"{seen.name} {seen.id.partition('-')[2]}: {what}")

    def _say(self, what: str) -> None:
        self.verdict.violations.append(f"stream {self._history.number} ({self._history.sid or 'none'}): {what}")


@dataclass(slots=True)
class Figures:
    """All clients together."""

    streams: int
    ended: int
    lost: int
    repeated: int
    rewinds: int
    continued: int
    calls: int
    cuts: int
    refused: Counter[int]
    silences_s: list[float]
    """The longest pause of each client, the shortest first."""
    violations: list[str]

    def silence_s(self, share: float) -> float:
        """The pause that this share of the clients did not exceed."""
        return self.silences_s[min(int(len(self.silences_s) * share), len(self.silences_s) - 1)]


def figures(verdicts: Sequence[Verdict], more: Sequence[str] = ()) -> Figures:
    """Sums, and everything that is wrong; `more` is what was found wrong elsewhere."""
    return Figures(
        streams=len(verdicts),
        ended=sum(not any("no terminal" in line for line in verdict.violations) for verdict in verdicts),
        lost=sum(verdict.lost for verdict in verdicts),
        repeated=sum(verdict.repeated for verdict in verdicts),
        rewinds=sum(verdict.rewinds for verdict in verdicts),
        continued=sum(verdict.continued for verdict in verdicts),
        calls=sum(verdict.calls for verdict in verdicts),
        cuts=sum(verdict.cuts for verdict in verdicts),
        refused=sum((verdict.refused for verdict in verdicts), Counter()),
        silences_s=sorted(verdict.silence_s for verdict in verdicts),
        violations=[*(line for verdict in verdicts for line in verdict.violations), *more],
    )
