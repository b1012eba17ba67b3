"""Flag changes: what may be said of a flag, by an operator or in a file, and what is refused by name."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.admission.flag_changes import changed, iso, shown_now
from gateway.admission.flags_file import FlagsError, flags_of
from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag, RolledBack, Step, Variant
from tests.documents import ROOT

NOW = 1_800_000_000.0
FLAG = Flag(STREAMING, percent=20, steps=(Step(NOW - 10, 40), Step(NOW + 10, 60)))


def test_only_what_is_named_changes() -> None:
    """An empty change changes nothing."""
    assert changed(FLAG, {}, NOW) == FLAG
    assert changed(FLAG, {"enabled": False}, NOW) == replace(FLAG, enabled=False)
    said = {"tenants": ["a"], "users": ["a/b c"], "variants": {"x": {"weight": 1}, "y": {"weight": 2, "model": "m"}}}
    assert changed(FLAG, said, NOW) == replace(
        FLAG, tenants=("a",), users=("a/b c",), variants=(Variant("x", 1), Variant("y", 2, "m"))
    )


def test_a_percentage_ends_the_schedule() -> None:
    """Else the next step would take back what a person has just decided."""
    after = changed(FLAG, {"percent": 5}, NOW)
    assert (after.percent, after.steps) == (5, ())


def test_a_new_schedule_begins_at_what_is_in_force() -> None:
    """Nobody who is in falls out because steps are planned."""
    after = changed(FLAG, {"steps": [{"at": "+1h", "percent": 80}]}, NOW)
    assert (after.percent, after.steps) == (40, (Step(NOW + 3600, 80),))
    assert after.percent_at(NOW) == FLAG.percent_at(NOW)


def test_steps_are_at_times_or_so_long_from_now_in_whatever_order() -> None:
    """ISO 8601 with its offset; seconds, minutes, hours and days."""
    said = [("2027-01-16T10:00:00+02:00", 6.0), ("+2d", 5.0), ("+30s", 1.0), ("+10m", 2.0), ("+3h", 3.0)]
    after = changed(FLAG, {"steps": [{"at": at, "percent": percent} for at, percent in said]}, NOW)
    at = datetime(2027, 1, 16, 8, tzinfo=UTC).timestamp()
    expected = {(at, 6.0), (NOW + 172_800, 5.0), (NOW + 30, 1.0), (NOW + 600, 2.0), (NOW + 10_800, 3.0)}
    assert set(after.steps) == expected
    assert list(after.steps) == sorted(after.steps)


@pytest.mark.parametrize("said", [{"percent": 5}, {"steps": []}, {"clear_rollback": True}])
def test_a_person_s_decision_ends_the_mark_of_a_rollback(said: dict[str, Any]) -> None:
    """From then on it can be taken back again."""
    flag = replace(FLAG, rolled_back=RolledBack("bad", NOW))
    assert changed(flag, {"tenants": ["a"]}, NOW).rolled_back is not None
    assert changed(flag, said, NOW).rolled_back is None


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"percent": 101}, "percent"),
        ({"percent": -0.1}, "percent"),
        ({"percent": "5"}, "percent"),
        ({"percent": float("nan")}, "percent"),
        ({"enabled": 1}, "enabled"),
        ({"wings": 2}, None),
        ({"version": 7}, None),
        ({"steps": [{"at": "tomorrow", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "2030-01-01T00:00:00", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "+5w", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "+999999999d", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "+27000d", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "9999-12-31T23:59:59-14:00", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "0001-01-01T00:00:00+14:00", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "1999-12-31T23:59:59Z", "percent": 5}]}, "steps"),
        ({"steps": [{"at": "+1h"}]}, "steps"),
        ({"steps": [{"at": "+1h", "percent": 5}] * 101}, "steps"),
        ({"tenants": ["a b"]}, "tenants"),
        ({"tenants": "acme"}, "tenants"),
        ({"users": ["alice"]}, "users"),
        ({"users": ["acme/a\nb"]}, "users"),
        ({"variants": {"a b": {"weight": 1}}}, "variants"),
        ({"variants": {"a": {"weight": 0}}}, "variants"),
        ({"variants": {"a": {"weight": -1}}}, "variants"),
        ({"variants": {f"v{number}": {"weight": 1} for number in range(17)}}, "variants"),
    ],
)
def test_what_no_flag_can_be_is_refused_by_its_name(said: dict[str, Any], param: str | None) -> None:
    """400, with the field, and nothing of what was said."""
    with pytest.raises(GatewayError) as refused:
        changed(FLAG, said, NOW)
    error = refused.value
    assert (error.code, error.status) == (Code.INVALID_REQUEST, 400)
    assert (error.param or "").split("[")[0] == (param or "")
    for word in ("tomorrow", "alice", "wings"):
        assert word not in error.message


def test_a_flag_is_shown_with_its_times_in_words_and_what_is_in_force() -> None:
    """As a person reads it."""
    told = shown_now(replace(FLAG, rolled_back=RolledBack("bad", NOW), changed_s=NOW, version=3), NOW)
    assert told["percent_now"] == 40
    assert told["steps"][0] == {"at": iso(NOW - 10), "percent": 40}
    assert told["rolled_back"] == {"reason": "bad", "at": iso(NOW)}
    assert told["changed"] == iso(NOW) == "2027-01-15T08:00:00.000Z"
    assert shown_now(replace(FLAG, enabled=False), NOW)["percent_now"] == 0


@pytest.mark.parametrize("at_s", [1e18, -1e18, 253_402_300_799 + 50_400, float("inf"), float("-inf"), float("nan")])
def test_a_time_that_no_calendar_has_is_shown_all_the_same(at_s: float) -> None:
    """Else one such step, from wherever it came, would hide its flag and the trail for good."""
    told = shown_now(replace(FLAG, steps=(Step(at_s, 60),)), NOW)
    assert len(told["steps"]) == 1
    assert datetime.fromisoformat(told["steps"][0]["at"]).tzinfo is not None


# The file.


def test_without_a_file_streams_are_for_everybody() -> None:
    """And nothing is guarded that nobody rolls out."""
    (flag,) = flags_of(None)
    assert flag.open
    assert not flag.guarded


def test_the_example_is_the_schedule_that_it_says() -> None:
    """1, 5, 10, 25, 50, 75, 90 and 100 percent, and before it nobody but who is named."""
    (flag,) = flags_of(ROOT / "config" / "flags.example.toml")
    assert [step.percent for step in flag.steps] == [1, 5, 10, 25, 50, 75, 90, 100]
    assert flag.percent_at(NOW) == 0
    assert flag.guarded


def test_a_schedule_in_a_file_lets_nobody_in_before_its_first_step(tmp_path: Path) -> None:
    """Also where it names no percentage."""
    path = tmp_path / "flags.toml"
    path.write_text("[streaming]\nsteps = [{ at = 2030-01-01T00:00:00Z, percent = 5 }]\n")
    assert flags_of(path)[0].percent_at(NOW) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("percent = ", "not valid TOML"),
        ("[flying]\npercent = 5", "one table"),
        ("streaming = 5", "one table"),
        ("[streaming]\npercent = 500", "percent"),
        ("[streaming]\nsteps = 5", "steps"),
        ("[streaming]\nsteps = [5]", "steps"),
        ('[streaming]\nsteps = [{ at = "+1h", percent = 5 }]', "in a file"),
        ("[streaming]\nsteps = [{ at = 2030-01-01T00:00:00, percent = 5 }]", "offset"),
        ("[streaming]\nsteps = [{ at = 9999-01-01T00:00:00Z, percent = 5 }]", "before 2100"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    """Before anything is served."""
    path = tmp_path / "flags.toml"
    path.write_text(text)
    with pytest.raises(FlagsError, match=said):
        flags_of(path)
    with pytest.raises(FlagsError, match="cannot be read"):
        flags_of(tmp_path / "missing.toml")
