"""Figures that were measured: medians with their spread, and ratios within the same round."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.runner import Run

Session = dict[str, Any]
BASES = ("nginx", "relay")
ORDER = ("nginx", "relay", "gateway", "native", "gateway_redis", "litellm")


@dataclass(frozen=True)
class Spread:
    """The median of some values, the least, the greatest, and how many there are."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """None where there are no values."""
        found = list(values)
        return cls(statistics.median(found), min(found), max(found), len(found)) if found else None


def value(run: Run, path: str) -> float | None:
    """A figure by its name, such as `latency_ms.p99`."""
    found: Any = run
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, (int, float)) else None


class Results:
    """All runs of some sessions."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = list(sessions)
        self._runs = [(number, run) for number, session in enumerate(self.sessions) for run in session["runs"]]
        measured = {run["target"] for _, run in self._runs}
        self.base = next((base for base in BASES if base in measured), "")
        """What the others are compared with."""

    def cases(self, scenario: str) -> list[str]:
        """The cases of a scenario that were measured, in their order."""
        return list(dict.fromkeys(run["case"] for _, run in self._runs if run["scenario"] == scenario))

    def targets(self, scenario: str) -> list[str]:
        """The targets for which a scenario was measured: the known ones first."""
        found = list(dict.fromkeys(run["target"] for _, run in self._runs if run["scenario"] == scenario))
        return sorted(found, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def runs(self, scenario: str, case: str, target: str) -> list[Run]:
        """The runs of one target under one load."""
        return [run for _, run in self._picked(scenario, case, target)]

    def _picked(self, scenario: str, case: str, target: str) -> list[tuple[int, Run]]:
        wanted = (scenario, case, target)
        return [(n, run) for n, run in self._runs if (run["scenario"], run["case"], run["target"]) == wanted]

    def spread(self, scenario: str, case: str, target: str, path: str) -> Spread | None:
        """Of one figure."""
        found = (value(run, path) for run in self.runs(scenario, case, target))
        return Spread.of(figure for figure in found if figure is not None)

    def ratio(self, scenario: str, case: str, target: str, path: str, *, to_case: str = "") -> Spread | None:
        """Of a figure to the base's in the same round of the same session, or to the target's own in another case."""
        of = self._picked(scenario, to_case, target) if to_case else self._picked(scenario, case, self.base)
        base = {(number, run["round"]): value(run, path) for number, run in of}
        ratios = []
        for number, run in self._picked(scenario, case, target):
            under, over = base.get((number, run["round"])), value(run, path)
            if under and over is not None:
                ratios.append(over / under)
        return Spread.of(ratios)


def load(files: Sequence[Path]) -> list[Session]:
    """The sessions in some files: each holds one, or several that were published together."""
    sessions: list[Session] = []
    for path in files:
        told = json.loads(path.read_text("utf-8"))
        sessions += told.get("sessions", [told])
    return sessions
