"""The benchmark's command line: what it refuses, what it says of targets that cannot run, and a short run for real."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import cli
from bench.cli import main
from bench.load import Load
from bench.progress import Progress
from bench.running import Bed, started
from bench.scenarios import SCENARIOS, Case, Scenario
from bench.spawning import BenchError, free_port
from bench.targets import ROOT, custom, known

ANYWHERE = Bed(None, None, False, 4096)
SHORT = Load(5, rate=50, tokens=10, ttft_ms=5, ramp_per_s=50, warm_s=0.5, end_s=1.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--scenarios", "S2,S99"], "no scenario S99"),
        (["run", "--targets", "apache"], "no target apache"),
        (["run", "--target", "x"], "name=command"),
        (["report", "not-there.json"], "not-there.json"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With a sentence, and before anything is started."""
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_rounds_are_at_least_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A number below is refused with the usage."""
    with pytest.raises(SystemExit):
        main(["run", "--rounds", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_a_target_that_dies_is_told_with_its_last_words() -> None:
    """Its log is shown."""
    dying = custom("dying=sh -c 'echo I cannot {port}; exit 3'")
    with (
        pytest.raises(BenchError, match=r"dying has ended with status 3(.|\n)*I cannot"),
        started(dying, ANYWHERE, 1, {}),
    ):
        pass


def test_a_program_that_is_not_there_is_told() -> None:
    """LiteLLM, for example, where nobody has installed it."""
    with (
        pytest.raises(BenchError, match="ended with status 127"),
        started(custom("x=/not/there {port}"), ANYWHERE, 1, {}),
    ):
        pass


def test_a_port_that_is_taken_is_told() -> None:
    """The load says whose port it is."""
    with socket.create_server(("127.0.0.1", 0)) as taken, started(known()["relay"], ANYWHERE, 1, {}) as stand:
        object.__setattr__(stand, "upstream", taken.getsockname()[1])
        with pytest.raises(BenchError, match=r"the upstream's port \d+ cannot be had"):
            stand.run(SHORT)


def test_without_nginx_the_relay_is_the_base_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing fails for want of it."""
    monkeypatch.setattr(cli, "find_nginx", lambda: None)
    targets = cli._targets(cli._parser().parse_args(["run", "--targets", "nginx,gateway"]))
    assert [target.name for target in targets] == ["relay", "gateway"]
    assert "no nginx here" in capsys.readouterr().err


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    """A log is not filled with bars."""
    plain = io.StringIO()
    progress = Progress(10, plain)
    for step in ("first", "second"):
        progress.begin(step, 5)
        progress.tick()
        progress.end()
    progress.close()
    assert plain.getvalue().splitlines() == ["  0 % first", " 50 % second"]
    assert progress.drawn(5).startswith("█" * 14 + "░")


def test_a_short_run_measures_both_and_keeps_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: relay and gateway in both dialects, a few streams, tables, raw figures, a report of them."""
    monkeypatch.setitem(SCENARIOS, "S2", Scenario("S2", "a few", lambda _: [Case(SHORT)]))
    monkeypatch.setattr(cli, "_described", lambda *_: {**DESCRIBED})
    out = tmp_path / "figures.json"
    command = ["run", "--scenarios", "S2", "--targets", "relay,gateway,native", "--rounds", "1", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    runs = {run["target"]: run for run in json.loads(out.read_text())["runs"]}
    assert list(runs) == ["relay", "gateway", "native"]
    for run in runs.values():
        assert set(run["ends"]) == {"completed"}
        assert run["tokens"] > 0
    assert runs["native"]["connected_ms"]["n"] > 0
    assert main(["report", str(out), "--charts", str(tmp_path / "charts")]) == 0
    assert capsys.readouterr().out == printed
    assert (tmp_path / "charts" / "cost.svg").exists()


DESCRIBED = {
    **{"date": "today", "revision": "", "machine": {"processor": "P", "cores": 1, "memory_mb": 1, "kernel": "Linux"}},
    **{"versions": {}, "options": {"rounds": 1, "placing": "not pinned"}},
}


def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    """Neither the target nor the load."""
    command = [sys.executable, "-m", "bench", "run", "--scenarios", "S1", "--targets", "relay"]
    bench = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out.json")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        while len(started_pids := children.read_text().split()) < 2:
            time.sleep(0.01)
        bench.send_signal(signal.SIGINT)
        _, said = bench.communicate(timeout=20)
    finally:
        bench.kill()
    assert bench.returncode == 130
    assert b"stopped" in said
    for pid in started_pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_ports_are_free() -> None:
    """Each is another one, and nobody listens there."""
    port = free_port()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
