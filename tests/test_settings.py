"""Settings: documented, checked before anything starts, and never silently ignored."""

import re
import tomllib
from pathlib import Path

import pytest

from gateway.settings import NOT_YET, Settings, SettingsError, load

FILE = Path(__file__).parent.parent / "config" / "gateway.toml"
EVERY = [(section, name) for section, table in Settings().model_dump().items() for name in table]


@pytest.mark.parametrize(("section", "name"), EVERY)
def test_every_setting_stands_in_the_file_with_its_default_and_a_reason(section: str, name: str) -> None:
    """The file is the reference: nothing is missing, nothing differs from the code, everything is explained."""
    text = FILE.read_text()
    value = tomllib.loads(text)[section][name]
    default = Settings().model_dump(mode="json")[section][name]
    assert value == default
    table = text.split(f"[{section}]")[1].split("\n[")[0]
    assert re.search(rf"^{name} = .+#\s*\S+", table, re.MULTILINE), f"{section}.{name} has no comment"


def test_the_file_holds_nothing_else() -> None:
    """A setting that was removed is removed from the file too."""
    tables = tomllib.loads(FILE.read_text())
    assert {(section, name) for section, table in tables.items() for name in table} == set(EVERY)


def test_environment_wins_over_file_and_alias(tmp_path: Path) -> None:
    """GATEWAY_… over the ecosystem's name over the file."""
    file = tmp_path / "g.toml"
    file.write_text('[openai]\nbase_url = "http://file/v1"\n[stream]\ntotal_s = 7\n')
    assert load(file, {}).openai.base_url == "http://file/v1"
    assert load(file, {"OPENAI_BASE_URL": "http://alias/v1"}).openai.base_url == "http://alias/v1"
    both = {"OPENAI_BASE_URL": "http://alias/v1", "GATEWAY_OPENAI__BASE_URL": "http://own/v1"}
    assert load(file, both).openai.base_url == "http://own/v1"
    assert load(file, {"STREAMING_TIMEOUT": "1500"}).stream.total_s == 1.5
    assert load(file, {"STREAMING_ENABLED": "false"}).stream.enabled is False


@pytest.mark.parametrize("text", ["gpt-4o, gpt-4o-mini", '["gpt-4o", "gpt-4o-mini"]'])
def test_lists_are_words_between_commas_or_json(text: str) -> None:
    """Both spellings that people try."""
    assert load(None, {"GATEWAY_OPENAI__MODELS": text}).openai.models == ["gpt-4o", "gpt-4o-mini"]
    assert load(None, {"GATEWAY_OPENAI__MODELS": ""}).openai.models == []


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"GATEWAY_SERVER__PROT": "1"}, ["GATEWAY_SERVER__PROT", "no such setting", "port"]),
        ({"GATEWAY_SERVR__PORT": "1"}, ["GATEWAY_SERVR__PORT", "no such setting", "server"]),
        ({"GATEWAY_PORT": "1"}, ["GATEWAY_PORT", "no such setting"]),
        ({"GATEWAY_SERVER__PORT": "70000"}, ["GATEWAY_SERVER__PORT", "server.port", "65535"]),
        ({"GATEWAY_SERVER__PORT": "eighty"}, ["GATEWAY_SERVER__PORT", "integer"]),
        ({"GATEWAY_STREAM__SILENCE_S": "-1"}, ["GATEWAY_STREAM__SILENCE_S", "greater than 0"]),
        ({"GATEWAY_LOGS__LEVEL": "loud"}, ["GATEWAY_LOGS__LEVEL", "'debug'"]),
        ({"OPENAI_BASE_URL": "ftp://x"}, ["OPENAI_BASE_URL", "http://"]),
        ({"STREAMING_TIMEOUT": "soon"}, ["STREAMING_TIMEOUT", "milliseconds"]),
        ({"STREAMING_RATE_LIMIT": "many"}, ["STREAMING_RATE_LIMIT", "limits.requests_per_ip", "integer"]),
        ({"STREAMING_WINDOW_MS": "0"}, ["STREAMING_WINDOW_MS", "limits.window_s", "0.1"]),
        ({"GATEWAY_LIMITS__ALLOW_NETWORKS": "10.0.0.1/8"}, ["GATEWAY_LIMITS__ALLOW_NETWORKS", "10.0.0.0/8"]),
        ({"GATEWAY_LIMITS__ALLOW_NETWORKS": "10.0.0.0/8,office"}, ["limits.allow_networks", "networks such as"]),
        ({"GATEWAY_LIMITS__LEASE_S": "30"}, ["GATEWAY_LIMITS__LEASE_S", "25"]),
        ({"GATEWAY_OPENAI__MODELS": "[1"}, ["openai.model", "openai.models"]),
        ({"OPENAI_API_KEY": "two words"}, ["OPENAI_API_KEY", "printable ASCII"]),
        ({"OPENAI_API_KEY": "\u043a\u043b\u044e\u0447"}, ["OPENAI_API_KEY", "printable ASCII"]),
        ({"OPENAI_BASE_URL": "http://"}, ["OPENAI_BASE_URL", "name a host"]),
        ({"OPENAI_BASE_URL": "http://exa mple/v1"}, ["OPENAI_BASE_URL", "name a host"]),
        ({"OPENAI_BASE_URL": "http://host:99999"}, ["OPENAI_BASE_URL", "name a host"]),
        ({"GATEWAY_DELIVERY__AWAY_RETRY_MIN_MS": "9000"}, ["away_retry_min_ms", "away_retry_max_ms"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(environment: dict[str, str], words: list[str]) -> None:
    """Where it was set, which one it is, what would be right."""
    with pytest.raises(SettingsError) as caught:
        load(None, environment)
    for word in words:
        assert word in str(caught.value)


def test_a_secret_is_never_shown() -> None:
    """Neither in an error nor in what `check` prints."""
    with pytest.raises(SettingsError) as caught:
        load(None, {"GATEWAY_OPENAI__API_KEY": "sk-canary", "GATEWAY_SERVER__PORT": "sk-canary"})
    assert "sk-canary" not in str(caught.value)
    settings = load(None, {"OPENAI_API_KEY": "sk-canary"})
    assert "sk-canary" not in repr(settings) + str(settings.model_dump(mode="json"))
    assert settings.openai.configured


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ["server.prot", "no such setting"]),
        ("server = 1\n", ["server"]),
        ("[server\n", ["not valid TOML"]),
        ("[nothing]\n", ["nothing", "no such setting"]),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    """The path, the place, what is wrong."""
    file = tmp_path / "g.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_a_section_that_is_no_table_is_named_when_the_environment_adds_to_it(tmp_path: Path) -> None:
    """Not a traceback."""
    file = tmp_path / "g.toml"
    file.write_text("server = 1\n")
    with pytest.raises(SettingsError, match="server: must be a table"):
        load(file, {"GATEWAY_SERVER__PORT": "1"})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path given must exist."""
    with pytest.raises(SettingsError, match=r"missing\.toml: cannot be read"):
        load(tmp_path / "missing.toml", {})


def test_names_that_are_not_acted_on_are_no_settings() -> None:
    """What `serve` warns of is not secretly heard."""
    assert not set(NOT_YET) & set(Settings.ALIASES)


def test_a_rate_limit_of_the_ecosystem_holds_with_tenants_and_without() -> None:
    """Where none are configured nothing is limited unless it is set; what is set by its own name stays."""
    assert load(None, {}).limits.open_requests_per_ip == 0
    limits = load(None, {"STREAMING_RATE_LIMIT": "7", "STREAMING_WINDOW_MS": "30000"}).limits
    assert (limits.requests_per_ip, limits.open_requests_per_ip, limits.window_s) == (7, 7, 30)
    own = {"STREAMING_RATE_LIMIT": "7", "GATEWAY_LIMITS__REQUESTS_PER_IP": "50"}
    assert (load(None, own).limits.requests_per_ip, load(None, own).limits.open_requests_per_ip) == (50, 7)
