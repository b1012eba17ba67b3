"""Flags file: how a rollout is configured before anybody changes it at run time."""

import tomllib
from pathlib import Path

from gateway.admission.flag_changes import changed
from gateway.errors import GatewayError
from gateway.flags import STREAMING, Flag


class FlagsError(Exception):
    """The file cannot be read, or says what no flag has."""


def flags_of(path: Path | None) -> list[Flag]:
    """The flags as `path` (a TOML file with a table `[streaming]`) says; without one, streams are for everybody.

    Times of steps are absolute there: every process that reads the file must mean the same. Raises `FlagsError`.
    """
    flag = Flag(STREAMING)
    if path is None:
        return [flag]
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise FlagsError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FlagsError(f"{path}: not valid TOML: {error}") from None
    table = said.pop(STREAMING, {})
    if said or not isinstance(table, dict):
        raise FlagsError(f"{path}: must hold one table, [{STREAMING}]")
    steps = table.get("steps")
    if isinstance(steps, list) and any(
        isinstance(step, dict) and str(step.get("at")).startswith("+") for step in steps
    ):
        raise FlagsError(f"{path}: steps: in a file, at must be a time like 2030-01-31T09:00:00Z")
    try:
        # With a schedule, nobody else is in before its first step.
        return [changed(flag, {"percent": 0 if steps else flag.percent, **table}, now=0.0)]
    except GatewayError as error:
        raise FlagsError(f"{path}: {error.message}") from None
