"""The documentation cannot lie: what its tables say is compared with the code, and what it points to exists."""

import argparse
import json
import re
import struct
import subprocess
from pathlib import Path

import pytest

from gateway import events
from gateway.accounting import _OUTCOME_OF_CODE, _OUTCOME_OF_REASON
from gateway.app.house import Gateway
from gateway.cli import _parser
from gateway.delivery.connection import Ending
from gateway.delivery.http import stream_headers
from gateway.delivery.response import HEADERS
from gateway.dialects.native import _Body, told
from gateway.errors import Code
from gateway.request import Caller
from gateway.routes.streams import CONTROLS
from gateway.settings import NOT_YET, PREFIX, Section, Settings, load
from gateway.stores.keys import Keys
from gateway.telemetry.prometheus import PrometheusMetrics
from gateway.webhooks.message import TYPES
from tests.documents import DOCUMENTS, ROOT, anchors, blocks, links, names_in, prose_of, table, text_of
from tests.doubles import stream_of

SOURCES = {path: path.read_text("utf-8") for path in sorted((ROOT / "gateway").rglob("*.py"))}
UNITS = {"_per_s": "tokens/s", "_bytes": "bytes", "_ms": "ms", "_s": "s"}
COUNTED = {
    "attempts": "times",
    "backlog": "connections",
    "concurrent_global": "streams",
    "concurrent_per_client": "streams",
    "context_tokens": "tokens",
    "continue_max": "times",
    "cost_multiple": "times",
    "error_rate": "share",
    "max_connections": "connections",
    "max_events": "events",
    "max_sessions": "sessions",
    "max_streams": "streams",
    "min_rating": "stars",
    "min_ratings": "ratings",
    "min_streams": "streams",
    "price_per_1k_completion": "currency",
    "price_per_1k_prompt": "currency",
    "projected_cost_per_stream": "currency",
    "open_requests_per_ip": "requests",
    "requests_global": "requests",
    "requests_per_ip": "requests",
    "requests_per_session": "requests",
    "requests_per_user": "requests",
    "tokens_per_day_global": "tokens",
    "max_chars": "characters",
    "max_messages": "messages",
    "max_tokens": "tokens",
    "max_words": "words",
    "premium_run": "times",
    "queue.max_waiting": "streams",
    "webhooks.max_waiting": "messages",
    "max_turns": "turns",
    "preferences_max": "users",
}
FREE_FORM = {"status", "metadata", "citation", "warning", "progress", "results"}
SAMPLES: list[events.Event] = [
    events.Opened("m"),
    events.Status("thinking"),
    events.Metadata({}),
    events.Text("a"),
    events.WholeText("a"),
    events.Reasoning("a"),
    events.Refusal("a"),
    events.ToolCall(0),
    events.Citation({}),
    events.Audio(b"", "mp3", 24_000, "", 0, True, 0),
    events.AudioEvicted(0),
    events.Suggestions(()),
    events.Progress({}),
    events.PartialResult("", 0, True),
    events.Results({}),
    events.Custom("own", {}),
    events.Warned("GAP", ""),
    events.TextComplete("stop"),
    events.Completed("completed", "stop", None, 0, 0),
    events.Failed("INTERNAL", "", True, 500, 0),
]


def settings() -> dict[str, tuple[str, str]]:
    """Every setting's full name, with its section and its own name."""
    found = {}
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        for name in field.annotation.model_fields:
            found[f"{section}.{name}"] = (section, name)
    return found


def unit_of(section: str, name: str) -> str:
    """The unit that a setting's name ends with, or what it counts."""
    counted = COUNTED.get(f"{section}.{name}") or COUNTED.get(name)
    return counted or next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def test_every_setting_is_in_the_table_with_its_default_unit_and_variable() -> None:
    """Whoever looks a setting up finds what is in force when it is not set."""
    rows = table("operations.md", "Setting", "Default", "Unit", "Environment", "Meaning")
    assert set(rows) == set(settings())
    defaults = Settings().model_dump(mode="json")
    for full, (section, name) in settings().items():
        row = rows[full]
        assert json.loads(row["Default"].strip("`")) == defaults[section][name], full
        assert row["Unit"] == unit_of(section, name), full
        assert row["Environment"] == f"`{PREFIX}{section}__{name}`".upper(), full
        assert row["Meaning"].endswith((".", "…")), full


def test_every_name_of_the_ecosystem_is_in_the_table() -> None:
    """What is heard, what it sets, and what is heard in vain so far."""
    rows = table("operations.md", "Name", "Sets", "Unit")
    said = {name: (row["Sets"].strip("`"), row["Unit"]) for name, row in rows.items()}
    heard = {
        name: (f"{section}.{setting}", "ms" if divisor else "")
        for name, (section, setting, divisor) in Settings.ALIASES.items()
    }
    assert said == {**heard, **dict.fromkeys(NOT_YET, ("nothing yet", ""))}


def test_every_setting_that_a_document_names_exists() -> None:
    """A renamed setting is renamed everywhere."""
    sections = "|".join(Settings.model_fields)
    for path in DOCUMENTS:
        for name in re.findall(rf"`((?:{sections})\.[a-z]\w*)`", prose_of(path)):
            assert name in {*settings(), *TYPES} or (ROOT / "gateway" / name).exists() or name.endswith(".py"), (
                path.name,
                name,
            )


def test_every_error_code_is_in_the_table() -> None:
    """Code, status, whether it helps to ask again, and the meaning, word for word."""
    rows = table("api.md", "Code", "Status", "Retryable", "Meaning")
    said = {name: (row["Status"], row["Retryable"], row["Meaning"]) for name, row in rows.items()}
    assert said == {code.name: (str(code.status), "yes" if code.retryable else "no", code.meaning) for code in Code}


def test_every_event_is_in_the_table_with_the_names_in_its_data() -> None:
    """No event on the wire is unknown to the table, none in the table is unknown to the wire."""
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert {type(sample) for sample in SAMPLES} == kinds - {events.Event}
    rows = table("api.md", "Event", "When", "Data")
    on_the_wire = [told(sample) for sample in SAMPLES if not isinstance(sample, events.Custom)]
    assert set(rows) == {name for name, _ in on_the_wire} | {"connected", "close"}
    for name, data in on_the_wire:
        if name not in FREE_FORM:
            assert set(data) <= names_in(rows[name]["Data"]), name


def test_every_state_and_every_warning_is_in_its_table() -> None:
    """Their words are collected from the code, where they are written as literals."""
    code = "\n".join(SOURCES.values())
    answers = "\n".join(SOURCES[ROOT / "gateway" / name] for name in ("dialects/native.py", "routes/refusals.py"))
    states = re.findall(r'"state": "(\w+)"', answers) + re.findall(r'(?:send_away(?:_all)?|Status)\("(\w+)"', code)
    assert set(table("api.md", "State", "When")) == set(states)
    warnings = re.findall(r'(?:Warned|_lose|Lost)\(\s*"([A-Z_]+)"', code) + re.findall(r'"code": "([A-Z_]+)"', answers)
    assert set(table("api.md", "Code", "Meaning")) == set(warnings)


def test_every_request_field_and_parameter_is_in_its_table() -> None:
    """The fields of a question, and the parameters that say how to answer."""
    assert set(table("api.md", "Field", "Type", "Meaning")) == set(_Body.model_fields)
    assert set(table("api.md", "Parameter", "Meaning")) == CONTROLS


async def test_every_endpoint_is_in_the_table() -> None:
    """Method and path of every route, and nothing else. The HEAD that comes with each page is not told."""
    routes = Gateway(load(None, {}))._runner.app.router.routes()
    served = {
        (route.method, route.resource.canonical)
        for route in routes
        if route.resource and route.method != "HEAD" and route.resource.canonical != "/stream/{other}"
    }
    rows = re.findall(r"^\| (GET|POST|PUT|DELETE) \| `([^`]+)` \|", text_of("api.md"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == served


def test_every_header_is_in_its_table() -> None:
    """What the code reads from a request and what it gives with an answer."""
    # What operators send is in operations.md.
    rooms = [path for path in SOURCES if path.parent.name in ("routes", "delivery") and path.name != "admin.py"]
    code = "\n".join(SOURCES[path] for path in [*rooms, ROOT / "gateway" / "admission" / "identity.py"])
    read = re.findall(r'(?:request|shown)\.headers(?:\.get\(|\[)?"?([\w-]+)"', code) + re.findall(
        r'"(X-[\w-]+-Id)"\)', code
    )
    listed = set(table("api.md", "Request header", "Meaning"))
    assert {"Last-Event-ID", "Idempotency-Key", "Accept", "X-Request-Id", "X-User-Id", "X-Session-Id"} <= set(read)
    assert {"Authorization", "X-API-Key", "X-Tenant-Hash", "Origin", "Sec-Fetch-Site"} <= set(read)
    assert set(read) - {"Content-Encoding"} <= listed
    given = {*HEADERS, *stream_headers(stream_of())} | set(re.findall(r'headers\["([\w-]+)"\] =', code))
    # What only a preflight's answer holds, browsers read and nobody else.
    given |= set(re.findall(r'[{,] ?"(Access-Control-[\w-]+|Vary|WWW-Authenticate)": ', code))
    given |= set(re.findall(r'"((?:X-)?RateLimit[\w-]*|X-Variant)"', code))
    assert {"Retry-After", "Server", "X-RateLimit-Limit", "RateLimit", "X-Variant"} <= given
    assert set(table("api.md", "Response header", "Meaning")) == given - {"Content-Length"}


def test_every_metric_is_in_the_table_with_its_type_and_labels() -> None:
    """The series of the gateway itself; the process's own are the Prometheus client's."""
    rows = table("operations.md", "Series", "Type", "Labels", "Meaning")
    said = {name: (row["Type"], names_in(row["Labels"])) for name, row in rows.items()}
    assert said == {series.name: (series.kind, set(series.label_names)) for series in PrometheusMetrics().series}


def test_every_key_in_redis_is_in_the_table() -> None:
    """Whoever must say what is stored where finds all of it."""
    keys, owner = Keys("ssegw"), Caller("t", "u", None)
    plain = {made for name, made in vars(keys).items() if not name.startswith("_")}
    built = plain | {keys.log("SID"), keys.meta("SID")}
    built |= {keys.lease("ID"), keys.beats("ID"), keys.inbox("ID"), keys.streams("ID")}
    built |= {keys.outcomes(1)}
    built |= {keys.idempotency(owner, "k"), keys.mine(owner), keys.orphans(owner, "s")}
    built |= {keys.window("ip", "w", 60), keys.slots("tenant", "t"), keys.budget("tenant", "t", 1)}
    built |= {keys.session(owner, "s"), keys.liking(owner), keys.ticket("DIGEST")}
    verbs = [name for name in vars(Keys) if not name.startswith("_")]
    assert len(built) == len(verbs) + len(plain)
    listed = set(table("operations.md", "Key", "Type", "Holds", "Kept"))
    assert listed == {re.sub(r"[0-9a-f]{40}", "DIGEST", name) for name in built}


def test_every_outcome_of_a_stream_and_of_a_connection_is_told() -> None:
    """The closed sets behind the labels `outcome` and `ending`."""
    outcomes = {*_OUTCOME_OF_REASON.values(), *_OUTCOME_OF_CODE.values()} | set(
        re.findall(r'"((?:provider_|caller_|handed_|ok)\w*)"', SOURCES[ROOT / "gateway" / "accounting.py"])
    )
    assert {"ok", "handed_over", "caller_cancel", "provider_error", "provider_timeout_first"} <= outcomes
    assert outcomes <= names_in(prose_of(ROOT / "docs" / "operations.md").replace("\n", " "))
    rows = table("operations.md", "Series", "Type", "Labels", "Meaning")
    assert names_in(rows["ssegw_readers_left_total"]["Meaning"]) == {ending.value for ending in Ending}


def test_every_make_target_that_a_document_names_exists() -> None:
    """Nobody is sent to a command that is not there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)", path.read_text("utf-8"))}
    named |= {name for block in blocks() for name in re.findall(r"^(?:.* )?make ([a-z-]+)$", block.code, re.MULTILINE)}
    assert {"run", "help", "check"} <= named <= targets


def _options_of(parser: argparse.ArgumentParser) -> set[str]:
    """All options, those of commands and of their commands among them."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= _options_of(command)
    return found


def test_every_option_that_a_document_names_exists() -> None:
    """Options of the command line, in the text and in the examples."""
    options = _options_of(_parser())
    named = set(re.findall(r"`(--\w[\w-]*)", text_of("operations.md")))
    named |= {
        option
        for block in blocks()
        for line in re.findall(r"-m gateway .*", block.code)
        for option in re.findall(r"--\w[\w-]*", line)
    }
    assert {"--port", "--text"} <= named <= options


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_inside_the_project_resolves(path: Path) -> None:
    """Files exist, and so do the headings that a link points to."""
    for link in links(path):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_shipped_configuration_file_has_its_instructions() -> None:
    """What lies in nginx/ and systemd/ is mentioned where its installation is described."""
    linked = {Path(link).name for link in links(ROOT / "docs" / "operations.md")}
    shipped = {path.name for folder in ("nginx", "systemd") for path in (ROOT / folder).iterdir()}
    assert shipped <= linked


def test_the_picture_of_the_chat_page_is_small_and_of_its_size() -> None:
    """1200 by 800 pixels, below 150 kB."""
    picture = (ROOT / "docs" / "chat.png").read_bytes()
    assert struct.unpack(">II", picture[16:24]) == (1200, 800)
    assert len(picture) < 150_000


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog: Unreleased first, versions with dates, and six kinds of change."""
    text = text_of("CHANGELOG.md")
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version) for version in versions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds


def test_no_tracked_file_holds_a_path_of_one_machine_a_registry_or_a_key() -> None:
    """What is true on one machine only, or is secret, does not belong to the project."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=30)
    if listed.returncode:
        pytest.skip("this is no checkout")
    forbidden = re.compile(
        r"(?<![\w.~/])/(?:work|root|home)/\w"
        r"|\b(?:files|registry|deb|pypi)\.\w+\.(?:org|net|com)\b|\bpypi\.org\b"
        r"|\bsk-[A-Za-z0-9_-]{20,}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bAIza[\w-]{35}"
        r"|-----BEGIN [A-Z ]*PRIVATE" + " KEY-----"
    )
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file():
            continue
        found = forbidden.search(path.read_bytes().decode("utf-8", "replace"))
        assert found is None, f"{name}: {found[0] if found else ''}"
