"""The command line: `run`, `rolling`."""

import argparse
import asyncio
import subprocess
import sys

from fleet.children import ROOT, FleetError, found
from fleet.rolling import rolling
from fleet.show import show
from fleet.unit import EXIT_CONFIG, WrongSettingError

PROGRAMS = ("nginx", "redis-server", "openssl")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fleet", description="Several gateways behind nginx with one Redis, on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="start nginx, Redis and gateways, and say what to try",
        description="Starts nginx, Redis and gateways on loopback, replaces gateways that die or hang, and ends all of "
        "them with Ctrl-C. The environment and config/gateway.toml set the gateways up; REDIS_URL names another Redis.",
    )
    run.add_argument("--port", type=int, default=8080, help="port of nginx, 0 for any free one (default: %(default)s)")
    _count(run, "--processes", 3, "gateway processes")
    run.set_defaults(run=lambda options: show(options.processes, options.port))
    renewing = commands.add_parser(
        "rolling",
        help="restart the gateways one by one under open streams, and count what readers notice",
        description="Starts a cluster of its own with slow, long answers, opens streams, restarts one gateway after "
        "the other, and compares what each reader saw with the exact answer and with the log. The exit status is 1 "
        "when anything was lost or repeated, or any answer was not 200. REDIS_URL names another Redis.",
    )
    _count(renewing, "--processes", 3, "gateway processes")
    _count(renewing, "--streams", 1000, "streams, half of them read as a browser does")
    renewing.set_defaults(run=lambda options: rolling(options.processes, options.streams))
    return parser


def _count(command: argparse.ArgumentParser, name: str, default: int, what: str) -> None:
    command.add_argument(name, type=_positive, default=default, metavar="N", help=f"{what} (default: {default})")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status, 78 for a setting that the gateways refuse."""
    options = _parser().parse_args(arguments)
    try:
        _install()
        return int(asyncio.run(options.run(options)))
    except WrongSettingError as error:
        print(f"the gateways do not start with these settings:\n{error}", file=sys.stderr)
        return EXIT_CONFIG
    except (FleetError, OSError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _install() -> None:
    """The system packages that are missing, said before it is done."""
    if not all(found(program) for program in PROGRAMS):
        done = subprocess.run(["sh", str(ROOT / "tools" / "setup.sh"), "cluster"], check=False)
        if done.returncode:
            raise FleetError("it needs " + ", ".join(PROGRAMS))
