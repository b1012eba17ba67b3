"""The command line: says what it can do, refuses what is wrong by name, and its exit status can be relied on."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway import __version__
from gateway.cli import EXIT_CONFIG, _parser, main
from gateway.tail import TRIES_MAX, _refusal, _Tail, tail
from tests.cutter import cutter
from tests.house import FAST, ROOT, free_port, house, see
from tests.upstream import answer, streamed, upstream

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what the developer has set reaches these tests."""
    for name in os.environ:
        if name.startswith(("GATEWAY_", "OPENAI_", "STREAMING_", "CIRCUIT_")) or name == "REDIS_URL":
            monkeypatch.delenv(name)


def stopped(*arguments: str) -> int:
    """The exit status of a command that ends in the parser."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


async def no_pause(follower: _Tail) -> None:
    """Instead of `_Tail.pause`, so that a test need not wait."""


async def tailed(url: str, *arguments: str) -> int:
    """The exit status of `tail`."""
    return await tail(_parser().parse_args(["tail", "--url", url, *arguments]))


# Help and settings.


def test_help_names_the_commands_and_each_command_its_options(capsys: Printed) -> None:
    """Nobody has to read the code to start it."""
    assert stopped("--help") == 0
    said = capsys.readouterr().out
    assert all(command in said for command in ("serve", "check", "tail"))
    for command, options in {
        "serve": ["--host", "--port", "--uds", "--config"],
        "check": ["--config"],
        "tail": ["--url", "--session", "--user", "--text"],
    }.items():
        assert stopped(command, "--help") == 0
        said = capsys.readouterr().out
        assert all(option in said for option in options)


def test_the_version_is_told(capsys: Printed) -> None:
    """For bug reports."""
    assert stopped("--version") == 0
    assert capsys.readouterr().out == f"sse-gateway {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--port", "many"], ["tail"]])
def test_a_command_that_does_not_exist_is_wrong_usage(arguments: list[str], capsys: Printed) -> None:
    """Exit status 2 and a line that says what was expected."""
    assert stopped(*arguments) == 2
    assert "usage: python -m gateway" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [("GATEWAY_SERVER__PORT", "70000"), ("GATEWAY_STREAM__SILENCE_S", "soon"), ("GATEWAY_STREAM__SILENT_S", "3")],
)
def test_a_wrong_setting_ends_with_78_and_its_name(
    command: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """Before anything listens, on standard error, without a traceback and without the value."""
    monkeypatch.setenv(variable, value)
    assert main([command]) == EXIT_CONFIG == 78
    printed = capsys.readouterr()
    assert variable in printed.err
    assert "Traceback" not in printed.err
    assert value == "3" or value not in printed.err
    assert printed.out == ""


def test_a_settings_file_that_is_not_there_ends_with_78(tmp_path: Path, capsys: Printed) -> None:
    """A typing error in `--config` must not start a gateway with defaults."""
    assert main(["check", "--config", str(tmp_path / "none.toml")]) == EXIT_CONFIG
    assert "none.toml: cannot be read" in capsys.readouterr().err


def test_check_prints_what_is_in_force_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """File and environment together; a key is only shown to be set."""
    file = tmp_path / "gateway.toml"
    file.write_text("[stream]\nretention_s = 77\n[server]\nport = 9001\n")
    monkeypatch.setenv("GATEWAY_SERVER__PORT", "9002")
    monkeypatch.setenv("OPENAI_API_KEY", "hush-hush")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/hush/google.json")
    assert main(["check", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert "retention_s = 77.0" in said
    assert "port = 9002" in said
    assert "# GOOGLE_APPLICATION_CREDENTIALS is set, but this version does not act on it" in said
    assert "hush" not in said


# serve, in a process of its own.


@contextmanager
def served(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`serve` with these arguments, ended at the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", *arguments],
        cwd=ROOT,
        env={**clean, **FAST},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_serve_says_where_it_listens_and_ends_with_0_when_told_to() -> None:
    """Port 0 takes a free one, and the first line names it. SIGTERM drains; everything on stderr is JSON."""
    with served("--port", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline().split()
        assert first[:2] == ["sse-gateway", __version__]
        with urllib.request.urlopen(f"{first[-1]}/health/ready", timeout=30) as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        lines = [json.loads(line) for line in process.stderr]
        assert [line["event"] for line in lines] == ["draining", "stopped"]


async def test_serve_listens_on_a_unix_socket(tmp_path: Path) -> None:
    """`--uds` instead of a port; said at once, so that a supervisor's log shows it."""
    path = str(tmp_path / "gateway.sock")
    with served("--uds", path) as process:
        assert process.stdout is not None
        assert (await asyncio.to_thread(process.stdout.readline)).endswith(f"on unix:{path}\n")
        connector = aiohttp.UnixConnector(path)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://x/health/live") as response,
        ):
            assert response.status == 200


def test_a_port_in_use_ends_with_1_and_says_so() -> None:
    """One line for a person, no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with served("--port", str(taken.getsockname()[1])) as process:
            said, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("cannot listen: ")
    assert "in use" in errors
    assert errors.count("\n") == 1
    assert said == ""


# tail, against a house in this process.


async def test_tail_asks_and_prints_every_event(capsys: Printed) -> None:
    """One line each, with id, name and data; 0 at the end."""
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway:
        assert await tailed(gateway.urls[0], "hi") == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    names = ["connected", "status", "metadata", "text", "text", "status", "complete", "close"]
    assert [line[1] for line in lines] == names
    assert lines[3][0].endswith("-1-3")
    assert json.loads(lines[3][2]) == {"token": "Hello"}


async def test_tail_can_print_the_text_alone(capsys: Printed) -> None:
    """For pipes: the answer and a newline."""
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway:
        assert await tailed(gateway.urls[0], "--text", "hi") == 0
    assert capsys.readouterr().out == "Hello world\n"


async def test_tail_follows_a_stream_by_its_id_for_its_owner_only(capsys: Printed) -> None:
    """With the session that it was opened with; without it the stream does not exist, and that is exit status 1."""
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway, aiohttp.ClientSession() as session:
        asked = {"query": "hi", "session_id": "s1"}
        sid = (await see(session, "POST", f"{gateway.urls[0]}/stream?detach", json=asked)).json()["stream_id"]
        assert await tailed(gateway.urls[0], "--text", "--session", "s1", sid) == 0
        assert capsys.readouterr().out == "Hello world\n"
        assert await tailed(gateway.urls[0], sid) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("STREAM_NOT_FOUND: ")
    assert printed.out == ""
    assert len(service.calls) == 1


async def test_tail_ends_with_1_when_the_answer_failed(capsys: Printed) -> None:
    """Also with `--text`, where the reason goes to standard error."""
    steps = [*streamed(answer(["Half"]))[:3], "fin"]
    async with upstream(steps) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        assert await tailed(gateway.urls[0], "--text", "hi") == 1
    printed = capsys.readouterr()
    assert printed.out == "Half\n"
    assert "UPSTREAM_TRUNCATED: " in printed.err


@pytest.mark.parametrize(
    "cuts",
    [[rb"id: \w{9}"], [rb"-1-5\n\n.{0,9}event: te", rb"-1-9\n\n", rb"id: \w{8}"]],
    ids=["before any id", "three times"],
)
async def test_tail_comes_back_and_prints_nothing_twice(cuts: list[bytes], capsys: Printed) -> None:
    """After each lost connection it goes on behind its last event, and the upstream is asked once."""
    words = [f" {number}" for number in range(20)]
    async with (
        upstream(streamed(answer(words), gap_s=0.005)) as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_DELIVERY__RETRY_MS="100") as gateway,
        cutter(gateway.urls[0], cuts=cuts) as line,
    ):
        assert await tailed(line.url, "--text", "count") == 0
    printed = capsys.readouterr()
    assert printed.out == "".join(words) + "\n"
    assert printed.err.count("connection lost") == len(cuts) == line.cut_count
    assert len(service.calls) == 1


async def test_tail_asks_once_even_if_it_was_not_heard(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    """An answer that is lost before its first byte is found again, not asked for a second time."""
    monkeypatch.setattr(_Tail, "pause", no_pause)
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        cutter(gateway.urls[0], swallow=1) as line,
    ):
        assert await tailed(line.url, "--text", "hi") == 0
    assert capsys.readouterr().out == "Hello world\n"
    assert [asked.method for asked in line.requests] == ["POST", "POST"]
    assert len(service.calls) == 1


async def test_tail_has_patience_as_long_as_something_new_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """Tries are counted in a row: each event that arrives begins the count anew."""
    monkeypatch.setattr(_Tail, "pause", no_pause)
    words = [f" {number}" for number in range(40)]
    cuts = [rb"-1-%d\n\n" % seq for seq in range(4, 4 + 3 * TRIES_MAX)]
    async with (
        upstream(streamed(answer(words), gap_s=0.002)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        cutter(gateway.urls[0], cuts=cuts) as line,
    ):
        assert await tailed(line.url, "--text", "count") == 0
    assert capsys.readouterr().out == "".join(words) + "\n"
    assert line.cut_count == len(cuts)


async def test_tail_gives_up_when_nobody_answers(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    """After as many tries in a row as it has patience, with exit status 1."""

    monkeypatch.setattr(_Tail, "pause", no_pause)
    assert await tailed(f"http://127.0.0.1:{free_port()}", "hi") == 1
    errors = capsys.readouterr().err
    assert errors.count("coming back") == TRIES_MAX
    assert errors.endswith("gave up\n")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b""])
def test_tail_does_not_stumble_over_an_answer_that_is_not_ours(body: bytes) -> None:
    """A proxy's page is not shown as a gateway's refusal."""
    assert _refusal(body) == "the answer is not a gateway's"
