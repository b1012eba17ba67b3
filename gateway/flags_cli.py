"""flags: an operator's view of the rollout, and hands on it, by way of a running gateway's admin listener."""

import argparse
import getpass
import os
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson

HELP = """\
Shows and changes rollout flags of running gateways, by way of the admin listener (admin.port or admin.uds).
The token is taken from GATEWAY_ADMIN__TOKEN. A change at one process is seen by all within a second."""

EPILOG = """\
examples:
  flags list
  flags set streaming --percent 5
  flags set streaming --off
  flags set streaming --variant control=90 --variant small=10:gpt-4o-mini
  flags steps streaming now=1 +1h=5 +1d=10 2030-02-07T09:00:00Z=100
  flags audit streaming

exit status: 0 done, 1 refused or not reached, 2 wrong usage"""

LIMIT_S = 10.0


class Refused(Exception):
    """The gateway said no, in words for the user."""


def add_to(commands: Any) -> None:
    """Add the command `flags` to the parser's `commands`."""
    flags = commands.add_parser(
        "flags",
        help="show and change who gets streams, in running gateways",
        description=HELP,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = flags.add_subparsers(required=True, metavar="ACTION", dest="action")
    actions.add_parser("list", help="all flags, as they are in force")
    change = actions.add_parser("set", help="change what is named, and leave the rest")
    change.add_argument("name", metavar="FLAG")
    switch = change.add_mutually_exclusive_group()
    switch.add_argument("--on", action="store_true", help="on, for those whom the rest lets in")
    switch.add_argument("--off", action="store_true", help="off for everybody; streams that run go on")
    change.add_argument("--percent", type=float, metavar="N", help="of all subjects, from now on; ends the schedule")
    said = "always in, instead of those before; again for more, '' for none"
    change.add_argument("--tenant", action="append", metavar="T", help=said)
    change.add_argument("--user", action="append", metavar="T/U", help=said)
    change.add_argument(
        "--variant", action="append", metavar="V=W[:M]", help="weight and model of an arm; again for more, '' for none"
    )
    change.add_argument("--clear-rollback", action="store_true", help="go on after a rollback, at its percentage")
    steps = actions.add_parser("steps", help="set the schedule")
    steps.add_argument("name", metavar="FLAG")
    steps.add_argument(
        "steps",
        nargs="*",
        metavar="AT=PERCENT",
        help="AT: now, +30s, +10m, +2h, +1d or 2030-01-31T09:00:00Z; none: ends it",
    )
    for action in (change, steps):
        action.add_argument("--version", type=int, metavar="N", help="only if the flag is at this version")
        action.add_argument("--actor", default=_me(), help="who does it, for the audit trail (default: %(default)s)")
    trail = actions.add_parser("audit", help="who changed a flag, when, from what to what")
    trail.add_argument("name", metavar="FLAG")
    for action in actions.choices.values():
        action.add_argument("--url", help="the admin listener (default: by GATEWAY_ADMIN__HOST and …__PORT)")
        action.add_argument("--uds", metavar="PATH", help="its unix socket instead (default: GATEWAY_ADMIN__UDS)")


async def flags(options: argparse.Namespace) -> int:
    """Run one action; its exit status."""
    path, body = _REQUESTS[options.action](options)
    try:
        answer = await _ask(options, "PATCH" if body is not None else "GET", path, body)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    except aiohttp.InvalidURL:
        print("--url is not a URL that can be asked", file=sys.stderr)
        return 1
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        print(f"the admin listener cannot be reached ({type(error).__name__}); see admin.port", file=sys.stderr)
        return 1
    print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    return 0


async def _ask(options: argparse.Namespace, method: str, path: str, body: dict[str, Any] | None) -> Any:
    environment = os.environ
    headers = {"Authorization": f"Bearer {environment.get('GATEWAY_ADMIN__TOKEN', '')}"}
    if body is not None:
        headers["X-Actor"] = options.actor
        if options.version is not None:
            headers["If-Match"] = f'"{options.version}"'
    uds = None if options.url else options.uds or environment.get("GATEWAY_ADMIN__UDS")
    connector = aiohttp.UnixConnector(uds) if uds else None
    base = options.url or f"http://{_host(environment)}:{environment.get('GATEWAY_ADMIN__PORT') or 80}"
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=connector, headers=headers) as session,
        session.request(method, base.rstrip("/") + path, json=body, allow_redirects=False) as response,
    ):
        return _understood(response.status, await response.read())


def _host(environment: Any) -> str:
    host = environment.get("GATEWAY_ADMIN__HOST") or "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _understood(status: int, body: bytes) -> Any:
    try:
        answer = orjson.loads(body)
        if status == 200:
            return answer
        raise Refused(f"{answer['code']}: {answer['message']}")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Refused("the answer is not an admin listener's") from None


def _changes(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {}
    if options.on or options.off:
        body["enabled"] = options.on
    if options.percent is not None:
        body["percent"] = options.percent
    for field, said in (("tenants", options.tenant), ("users", options.user)):
        if said is not None:
            body[field] = [name for name in said if name]
    if options.variant is not None:
        body["variants"] = dict(_variant(said) for said in options.variant if said)
    if options.clear_rollback:
        body["clear_rollback"] = True
    return f"/admin/flags/{options.name}", body


def _variant(said: str) -> tuple[str, dict[str, Any]]:
    name, _, rest = said.partition("=")
    weight, _, model = rest.partition(":")
    return name, {"weight": _number(weight, said), **({"model": model} if model else {})}


def _steps(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    steps = []
    for said in options.steps:
        at, _, percent = said.rpartition("=")
        steps.append({"at": "+0s" if at == "now" else at, "percent": _number(percent, said)})
    return f"/admin/flags/{options.name}", {"steps": steps}


def _number(text: str, said: str) -> float:
    try:
        return float(text)
    except ValueError:
        print(f"{said!r} has no number behind its =", file=sys.stderr)
        raise SystemExit(2) from None


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"


_REQUESTS: dict[str, Callable[[argparse.Namespace], tuple[str, dict[str, Any] | None]]] = {
    "list": lambda options: ("/admin/flags", None),
    "set": _changes,
    "steps": _steps,
    "audit": lambda options: (f"/admin/flags/{options.name}/audit", None),
}
