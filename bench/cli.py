"""The command line: `run`, `door`, `report`, `publish`."""

import argparse
import datetime
import importlib.metadata
import json
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from bench import door, host, peers, publish, tables
from bench.charts import write_charts
from bench.results import Results, load
from bench.runner import Runner
from bench.running import Bed
from bench.scenarios import QUICK, SCENARIOS
from bench.spawning import BenchError, end_all
from bench.store import find_redis
from bench.targets import ROOT, STATE, Target, custom, find_nginx, known

DEFAULT = ("nginx", "relay", "gateway", "native")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the gateway and its peers.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure, print tables, keep the figures")
    run.add_argument("--full", action="store_true", help="all scenarios, not only the quick ones")
    run.add_argument("--scenarios", metavar="A,B", help=f"of {', '.join(SCENARIOS)}")
    run.add_argument("--targets", metavar="A,B", default=",".join(DEFAULT), help=f"of {', '.join(known())}")
    run.add_argument(
        "--target", metavar="NAME=COMMAND", action="append", default=[], help="one more; {port}, {upstream}"
    )
    run.add_argument("--rounds", type=_positive, default=3, metavar="N")
    run.add_argument("--rt", action="store_true", help="real-time priority for all processes of the bench")
    run.add_argument("--out", type=Path, default=STATE / "results" / "latest.json", metavar="FILE")
    passing = commands.add_parser("door", help="measure what the door costs a request, in this process")
    passing.add_argument("--rounds", type=_positive, default=5, metavar="N")
    for name, what in (("report", "print tables and draw charts"), ("publish", "put them into the documents")):
        command = commands.add_parser(name, help=what)
        command.add_argument("files", type=Path, nargs="+", metavar="FILE")
    commands.choices["report"].add_argument("--charts", type=Path, metavar="FOLDER", help="where to draw charts")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        if options.command == "run":
            return _run(options)
        if options.command == "door":
            print(door.table(door.measure(options.rounds)))
            return 0
        results = Results(load(options.files))
        if options.command == "publish":
            publish.publish(results)
            return 0
        print(tables.all_tables(results))
        if options.charts:
            write_charts(results, options.charts)
        return 0
    except (BenchError, OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130
    finally:
        end_all()


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace) -> int:
    names = options.scenarios.split(",") if options.scenarios else list(SCENARIOS if options.full else QUICK)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise BenchError(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    targets = _targets(options)
    bed = Bed.of_this_machine(options.rt)
    runner = Runner(targets, [SCENARIOS[name] for name in names], options.rounds, bed)
    minutes = runner.expected_s() / 60
    print(f"about {minutes:.0f} min; {_placed(bed)}", file=sys.stderr)
    session = _described(bed, targets, options.rounds)
    try:
        runner.run()
    finally:
        session |= {"failures": runner.failures, "runs": runner.runs}
        if runner.runs:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(session))
    print(tables.all_tables(Results([session])))
    print(f"the figures are in {options.out}", file=sys.stderr)
    return 1 if runner.failures else 0


def _targets(options: argparse.Namespace) -> list[Target]:
    """Those that were named and can be had. Without nginx the bare relay is what the others are compared with."""
    names = options.targets.split(",")
    unknown = [name for name in names if name not in known()]
    if unknown:
        raise BenchError(f"no target {', '.join(unknown)}; there are {', '.join(known())}")
    if "nginx" in names and find_nginx() is None:
        print("no nginx here; the others are compared with the bare asyncio relay", file=sys.stderr)
        names = ["relay", *(name for name in names if name not in ("nginx", "relay"))]
    if "litellm" in names:
        peers.install_litellm()
    return [*(known()[name] for name in names), *(custom(text) for text in options.target)]


def _placed(bed: Bed) -> str:
    where = (
        f"Target on core {bed.target_core}, load on core {bed.load_core}" if bed.load_core else "One core: not pinned"
    )
    return f"{where}; {'real-time' if bed.realtime else 'plain'} priority"


def _described(bed: Bed, targets: list[Target], rounds: int) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "revision": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "machine": host.described(),
        "versions": _versions([target.name for target in targets]),
        "options": {"rounds": rounds, "targets": [target.name for target in targets], "placing": _placed(bed)},
    }


def _versions(targets: list[str]) -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for package in ("uvloop", "aiohttp", "httptools", "orjson"):
        found[package] = importlib.metadata.version(package)
    if nginx := find_nginx():
        found["nginx"] = _output(nginx, "-v").rpartition("/")[2]
    if any(known()[name].store for name in targets if name in known()) and (redis_server := find_redis()):
        found["Redis"] = _output(redis_server, "--version").partition("v=")[2].partition(" ")[0]
    if "litellm" in targets:
        found["LiteLLM"] = peers.litellm_version()
    return found


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip() if not done.returncode else ""
