"""The command line: serve, check, tail, keys. Arguments only; what they do stands elsewhere."""

import argparse
import asyncio
import gc
import logging
import os
import re
import resource
import signal
import sys
from pathlib import Path

import uvloop

from gateway import __version__, flags_cli
from gateway.admission.keys import digest_of, new_key, written
from gateway.admission.tenants_file import NAME
from gateway.app.answers import HOME, upstream_route
from gateway.app.house import Gateway
from gateway.app.rolling import configured_flags
from gateway.app.telling import own_target
from gateway.app.tenancy import registry_of
from gateway.settings import NOT_YET, Settings, SettingsError, load
from gateway.tail import tail
from gateway.telemetry import logs

EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: systemd and people can tell a wrong setting from a crash."""

GC_THRESHOLDS = (50_000, 20, 100)
"""Streams leave no cycles, and kept text is not tracked: to look every 700 objects, as Python does, finds nothing."""

DEFAULT_CONFIG = HOME / "config" / "gateway.toml"
log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway", description="A streaming gateway for LLM chat.")
    parser.add_argument("--version", action="version", version=f"sse-gateway {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve until told to stop (SIGTERM drains, a second one stops at once)")
    serve.add_argument("--host", help="address to listen on (server.host)")
    serve.add_argument("--port", type=int, help="port to listen on, 0 for any free one (server.port)")
    serve.add_argument("--uds", metavar="PATH", help="unix socket to listen on instead of a port (server.uds)")
    check = commands.add_parser("check", help="check the settings, print what is in force, and exit")
    for command in (serve, check):
        command.add_argument("--config", type=Path, metavar="FILE", help="settings file (default: config/gateway.toml)")
    serve.set_defaults(run=_serve)
    check.set_defaults(run=_check)
    follow = commands.add_parser("tail", help="ask a question, or follow a stream by its id, and print its events")
    follow.add_argument("what", metavar="QUESTION|STREAM", help="a question to ask, or the id of a stream to follow")
    follow.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway (default: %(default)s)")
    follow.add_argument("--session", help="session id that the stream was opened with")
    follow.add_argument("--user", help="user id that the stream was opened with")
    follow.add_argument("--text", action="store_true", help="print only the text of the answer")
    follow.set_defaults(run=lambda options: asyncio.run(tail(options)))
    flags_cli.add_to(commands)
    commands.choices["flags"].set_defaults(run=lambda options: asyncio.run(flags_cli.flags(options)))
    _add_keys(commands.add_parser("keys", help="make an API key for the tenants file, or the digest of one"))
    return parser


def _add_keys(keys: argparse.ArgumentParser) -> None:
    verbs = keys.add_subparsers(required=True, metavar="VERB")
    new = verbs.add_parser("new", help="print a new key, which is kept nowhere, and its line for the tenants file")
    new.add_argument("--tenant", metavar="NAME", help="whose key it is, for the line")
    new.set_defaults(run=_new_key)
    hashed = verbs.add_parser("hash", help="read a key from standard input, and print its line for the tenants file")
    hashed.set_defaults(run=_hash_key)


def _new_key(options: argparse.Namespace) -> int:
    if options.tenant and not re.fullmatch(NAME, options.tenant):
        print(f"--tenant: a tenant's name matches {NAME}", file=sys.stderr)
        return 2
    key = new_key()
    where = f"tenants.{options.tenant}" if options.tenant else "the tenant's table"
    print(key)
    print(f"# Kept nowhere: note it now. In the tenants file, under [{where}], among its keys:")
    print(f'"{written(digest_of(key))}"')
    return 0


def _hash_key(options: argparse.Namespace) -> int:
    key = sys.stdin.readline().strip()
    if not key:
        print("no key came on standard input", file=sys.stderr)
        return 2
    print(f'"{written(digest_of(key))}"')
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    """The settings in force: file, environment, arguments, the later ones winning."""
    path: Path | None = options.config
    if path is None and DEFAULT_CONFIG.is_file():
        path = DEFAULT_CONFIG
    environment = dict(os.environ)
    for name in ("host", "port", "uds"):
        value = getattr(options, name, None)
        if value is not None:
            environment[f"GATEWAY_SERVER__{name.upper()}"] = str(value)
    return load(path, environment)


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if settings.openai.configured:
        upstream_route(settings)
    own_target(settings)
    registry_of(settings)
    configured_flags(settings)
    for section, values in settings.model_dump(mode="json").items():
        print(f"[{section}]")
        for name, value in values.items():
            print(f"{name} = {value!r}")
    for name in _unheard():
        print(f"# {name} is set, but this version does not act on it")
    return 0


def _unheard() -> list[str]:
    return [name for name in NOT_YET if os.environ.get(name)]


def _serve(options: argparse.Namespace) -> int:
    settings = _settings(options)
    handler = logs.set_up(settings.logs.level)
    _raise_descriptors(settings)
    try:
        return uvloop.run(_run(settings, handler))
    finally:
        handler.close()


def _raise_descriptors(settings: Settings) -> None:
    """Take all the file descriptors that may be had; out of them, clients would be dropped without a word."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = settings.server.max_connections + settings.stream.max_streams
    if hard != resource.RLIM_INFINITY and hard < wanted:
        log.warning("%d file descriptors are fewer than server.max_connections + stream.max_streams (%d)", hard, wanted)


async def _run(settings: Settings, handler: logs.QueuedLines) -> int:
    gateway = Gateway(settings)
    handler.on_drop = gateway.metrics.log_lines_dropped
    try:
        await gateway.start()
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 1
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop)
    loop.add_signal_handler(signal.SIGHUP, gateway.tenants.reload_soon)
    for name in _unheard():
        log.warning("%s is set, but this version does not act on it", name)
    # What is alive now lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    _say(gateway.urls, settings, is_open=gateway.tenants.now.is_open)
    await gateway.run()
    return 0


def _say(urls: list[str], settings: Settings, *, is_open: bool) -> None:
    source = "the OpenAI-compatible upstream" if settings.openai.configured else "the built-in source"
    print(f"sse-gateway {__version__} serves {source} on {' '.join(urls)}", flush=True)
    if not settings.server.uds:
        print(f"  chat page    {urls[0]}/")
        key = "" if is_open else "-H 'Authorization: Bearer KEY' "
        print(f"  native       curl -N {key}'{urls[0]}/stream?query=How+does+resume+work'")
        print(f"  OpenAI       base_url={urls[0]}/v1")
        print(f"  health       {urls[0]}/health/ready   metrics {urls[0]}/metrics", flush=True)
