"""The rounds: every target once, then every target again, so that what the machine does meanwhile hits all alike."""

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from bench.drive import Figures
from bench.load import Load
from bench.progress import Progress
from bench.running import Bed, Stand, started
from bench.scenarios import Case, Scenario, paced
from bench.search import BUSY_SHARE, RUNS, search
from bench.spawning import BenchError
from bench.targets import Target

START_S = 1.6
"""What starting and stopping a target takes, roughly."""
FIRST_US = 25.0
"""What a token is taken to cost where no run has said it: a search begins there."""
Run = dict[str, Any]


@dataclass
class Runner:
    """Runs scenarios for targets and collects the figures in `runs`, and in `failures` what did not run."""

    targets: list[Target]
    scenarios: list[Scenario]
    rounds: int
    bed: Bed
    runs: list[Run] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """All of it."""
        self._progress = Progress(self.expected_s())
        try:
            for scenario in self.scenarios:
                if scenario.search:
                    self._search(scenario)
                else:
                    self._rounds(scenario)
        finally:
            self._progress.close()

    def expected_s(self) -> float:
        """How long it will take."""
        total = 0.0
        for scenario in self.scenarios:
            runs = RUNS + self.rounds - 1 if scenario.search else self.rounds
            for case in self._cases(scenario):
                total += runs * len(self._targets(case)) * (case.load.end_s + START_S)
        return total

    def _cases(self, scenario: Scenario) -> list[Case]:
        return scenario.cases(self.bed.most_streams)

    def _targets(self, case: Case) -> list[Target]:
        return [target for target in self.targets if not case.targets or target.name in case.targets]

    def _rounds(self, scenario: Scenario) -> None:
        for number in range(1, self.rounds + 1):
            for case in self._cases(scenario):
                for target in self._targets(case):
                    self._one(scenario, case, target, number)

    def _one(self, scenario: Scenario, case: Case, target: Target, number: int) -> None:
        """One run; a target that cannot is told of, and the others go on."""
        name = " ".join(f"{scenario.name} {case.name} {target.name}".split())
        self._progress.begin(f"{name}, round {number} of {self.rounds}", case.load.end_s + START_S)
        try:
            with started(target, self.bed, case.copies, case.environment) as stand:
                figures = stand.run(case.load, self._progress.tick)
            self._keep(scenario, case, target, number, figures)
        except BenchError as error:
            self._failed(f"{name}: {error}")
        self._progress.end()

    def _search(self, scenario: Scenario) -> None:
        """One process for a whole search: only its load changes."""
        case = self._cases(scenario)[0]
        for target in self._targets(case):
            try:
                with started(target, self.bed, 1, {}) as stand:
                    measure = partial(self._step, scenario, stand)
                    found = search(self._first(target), paced, measure, self.rounds)
            except BenchError as error:
                self._failed(f"{scenario.name} {target.name}: {error}")
                continue
            for number, figures in enumerate(found, 1):
                known = replace(case, load=paced(int(figures["streams"])))
                self._keep(scenario, known, target, number, figures)

    def _step(self, scenario: Scenario, stand: Stand, load: Load) -> Figures:
        step = f"{scenario.name} {stand.target.name}, {load.streams} streams"
        self._progress.begin(step, load.end_s + START_S)
        figures = stand.run(load, self._progress.tick)
        self._progress.end()
        return figures

    def _first(self, target: Target) -> int:
        """Nine tenths of what a core should carry, from what a token cost this target before."""
        costs = [run["us_per_token"] for run in self.runs if run["target"] == target.name and run["scenario"] == "S2"]
        return int(BUSY_SHARE * 1e6 / (costs[-1] if costs and costs[-1] else FIRST_US) / 50)

    def _keep(self, scenario: Scenario, case: Case, target: Target, number: int, figures: Figures) -> None:
        told = {"scenario": scenario.name, "case": case.name, "target": target.name, "round": number}
        self.runs.append({**told, "load": asdict(case.load), **figures})

    def _failed(self, what: str) -> None:
        self.failures.append(what)
        self._progress.say(what)
