"""The commands that the documentation names are what the Makefile runs and the command line takes."""

import os
import re
import subprocess
from collections import Counter

import pytest

from fleet.checker import Figures
from fleet.cli import _parser
from fleet.rolling import faults, told
from tests.documents import blocks
from tests.house import ROOT

DOCUMENTED = [
    line for block in blocks() for line in re.findall(r"^make (?:run-cluster|rolling).*$", block.code, re.MULTILINE)
]


def test_both_commands_are_documented() -> None:
    """Or the next test would look at nothing."""
    assert {line.split()[1] for line in DOCUMENTED} == {"run-cluster", "rolling"}


@pytest.mark.parametrize("line", DOCUMENTED)
def test_a_documented_command_is_one_that_the_fleet_takes(line: str) -> None:
    """Each variable in it reaches the option that it stands for."""
    # Within `make test` this would be a make within a make, which says so around what it prints.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run([*line.split(), "-n"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    arguments = done.stdout.splitlines()[-1].split(" -m fleet ")[1].split()
    options = _parser().parse_args(arguments)
    for name, value in re.findall(r"([A-Z]+)=(\d+)", line):
        assert getattr(options, name.lower()) == int(value)


def figures(**different: object) -> Figures:
    """Figures of a rolling restart that nobody noticed, but for what is given."""
    good: dict[str, object] = dict.fromkeys(("lost", "repeated", "rewinds", "continued", "cuts"), 0)
    good |= {
        "streams": 4,
        "ended": 4,
        "calls": 8,
        "refused": Counter[int](),
        "silences_s": [0.1, 0.2, 0.3, 2.5],
        "violations": [],
    }
    return Figures(**{**good, **different})  # type: ignore[arg-type]  # figures by name


def test_the_verdict_is_good_only_when_nothing_is_wrong() -> None:
    """Any violation, any status but 200, or streams that did not last long enough to prove anything."""
    assert faults(figures(), 4) == []
    assert len(faults(figures(), 0)) == 1
    assert len(faults(figures(violations=["one"]), 4)) == 1
    assert len(faults(figures(refused=Counter({503: 1})), 4)) == 1


def test_the_table_shows_the_figures_and_the_first_violations() -> None:
    """Whoever reads it knows what to look for."""
    said = told(figures(lost=1234, refused=Counter({404: 2}), violations=[f"stream {n}" for n in range(30)]), 3)
    assert re.search(r"Lost events +1,234", said)
    assert re.search(r"not 200 +2 \(404: 2\)", said)
    assert re.search(r"silence p50 / p99 / max, s +0.30 / 2.50 / 2.50", said)
    assert said.count("\n  stream") == 20
    assert "and 10 more" in said
    assert said.splitlines()[-1].startswith("verdict: 2 answers were not 200; 30 violations")
