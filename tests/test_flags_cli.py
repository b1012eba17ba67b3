"""The command `flags`: what an operator sees and changes by it, and what its exit status says."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.cli import EXIT_CONFIG, _parser, main
from gateway.flags_cli import flags
from tests.house import free_port, house
from tests.operators import TOKEN, Operator, admin

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what the developer has set reaches these tests, but the token does."""
    for name in os.environ:
        if name.startswith("GATEWAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GATEWAY_ADMIN__TOKEN", TOKEN)


@pytest.fixture
async def operator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Operator]:
    """At a gateway whose admin listener the command finds by the environment."""
    port, settings = admin()
    monkeypatch.setenv("GATEWAY_ADMIN__PORT", str(port))
    async with house(**settings) as _gateway, aiohttp.ClientSession() as web:
        yield Operator(web, port)


async def run(*arguments: str) -> int:
    """The exit status of `flags` with these arguments."""
    return await flags(_parser().parse_args(["flags", *arguments]))


async def shown(capsys: Printed, *arguments: str) -> Any:
    """What it prints, having done what it should."""
    assert await run(*arguments) == 0
    return json.loads(capsys.readouterr().out)


async def test_flags_are_listed(operator: Operator, capsys: Printed) -> None:
    """As JSON, for people and for `jq`."""
    assert (await shown(capsys, "list"))["flags"] == [await operator.flag()]


async def test_what_is_named_is_set_and_the_rest_stays(operator: Operator, capsys: Printed) -> None:
    """Each option changes its own part; an empty name takes all of a list away."""
    await shown(capsys, "set", "streaming", "--percent", "5", "--tenant", "internal", "--tenant", "beta")
    await shown(capsys, "set", "streaming", "--off", "--user", "acme/alice")
    told = await shown(capsys, "set", "streaming", "--on", "--variant", "a=90", "--variant", "b=10:tiny:7b")
    assert (told["enabled"], told["percent"], told["tenants"]) == (True, 5, ["internal", "beta"])
    assert told["users"] == ["acme/alice"]
    assert told["variants"] == {"a": {"weight": 90, "model": ""}, "b": {"weight": 10, "model": "tiny:7b"}}
    told = await shown(capsys, "set", "streaming", "--tenant", "", "--user", "", "--variant", "")
    assert (told["tenants"], told["users"], told["variants"], told["percent"]) == ([], [], {}, 5)
    assert told == await operator.flag()


async def test_a_schedule_is_set_and_ended(operator: Operator, capsys: Printed) -> None:
    """The one of the handbook: 1, 5, 10, 25, 50, 75, 90, 100 percent."""
    said = ["now=1", "+4h=5", "+1d=10", "+2d=25", "+3d=50", "+4d=75", "+7d=90", "2099-01-01T00:00:00Z=100"]
    told = await shown(capsys, "steps", "streaming", *said)
    assert [step["percent"] for step in told["steps"]] == [1, 5, 10, 25, 50, 75, 90, 100]
    assert told["percent_now"] == 1
    assert told["steps"][-1]["at"] == "2099-01-01T00:00:00.000Z"
    told = await shown(capsys, "steps", "streaming")
    assert (told["steps"], told["percent_now"]) == ([], 1)


async def test_the_trail_names_the_user_of_the_shell_or_another(operator: Operator, capsys: Printed) -> None:
    """`--actor` for scripts."""
    await shown(capsys, "set", "streaming", "--percent", "5", "--actor", "deploy-bot")
    (change,) = (await shown(capsys, "audit", "streaming"))["changes"]
    assert (change["actor"], change["after"]["percent"]) == ("deploy-bot", 5)


async def test_a_version_can_be_insisted_on(operator: Operator, capsys: Printed) -> None:
    """Status 1 for whoever comes too late."""
    assert await run("set", "streaming", "--percent", "5", "--version", "0") == 0
    assert await run("set", "streaming", "--percent", "9", "--version", "0") == 1
    assert "changed meanwhile" in capsys.readouterr().err
    assert (await operator.flag())["percent"] == 5


async def test_it_finds_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    """By the environment or by its option."""
    path = str(tmp_path / "admin.sock")
    async with house(GATEWAY_ADMIN__UDS=path, GATEWAY_ADMIN__TOKEN=TOKEN):
        assert await run("list", "--uds", path) == 0
        monkeypatch.setenv("GATEWAY_ADMIN__UDS", path)
        assert await run("list") == 0
    assert "streaming" in capsys.readouterr().out


async def test_what_is_refused_is_said_in_words(
    operator: Operator, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 1, the code and the message, and no trace of Python."""
    for arguments, said in (
        (("set", "flying", "--off"), "NOT_FOUND"),
        (("set", "streaming", "--percent", "101"), "INVALID_REQUEST: percent"),
        (("steps", "streaming", "tomorrow=5"), "INVALID_REQUEST: steps"),
        (("list", "--url", f"{operator.url}/elsewhere"), "NOT_FOUND"),
        (("list", "--url", "http://"), "--url"),
        (("list", "--url", f"http://127.0.0.1:{free_port()}"), "cannot be reached"),
        (("list", "--uds", "/nowhere.sock"), "cannot be reached"),
    ):
        assert await run(*arguments) == 1
        printed = capsys.readouterr()
        assert said in printed.err
        assert "Traceback" not in printed.err
        assert not printed.out
    monkeypatch.setenv("GATEWAY_ADMIN__TOKEN", "wrong")
    assert await run("list") == 1
    assert "UNAUTHENTICATED" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["set"],
        ["set", "streaming", "--on", "--off"],
        ["set", "streaming", "--percent", "five"],
        ["set", "streaming", "--variant", "a"],
        ["steps", "streaming", "+1h"],
        ["steps", "streaming", "+1h=five"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: Printed) -> None:
    """And a line that says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(["flags", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err


def test_help_shows_examples_and_says_what_the_status_means(capsys: Printed) -> None:
    """Nobody has to read the code to use it."""
    for arguments in (["flags", "--help"], ["flags", "set", "--help"], ["flags", "steps", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    said = capsys.readouterr().out
    for words in ("GATEWAY_ADMIN__TOKEN", "exit status", "flags steps streaming now=1", "--clear-rollback", "--uds"):
        assert words in said


def test_check_finds_a_file_of_flags_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """Before a restart does."""
    path = tmp_path / "flags.toml"
    path.write_text("[streaming]\npercent = 500\n")
    monkeypatch.setenv("GATEWAY_FLAGS__FILE", str(path))
    assert main(["check"]) == EXIT_CONFIG
    assert "flags.file" in capsys.readouterr().err
