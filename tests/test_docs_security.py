"""docs/security.md cannot lie: each promise names tests, and the tests are there."""

import re

from gateway.settings import Settings
from tests.documents import ROOT, names_in, table, text_of

ROWS = {*range(1, 16), 22, 23, 25, *range(28, 31), *range(33, 38), *range(42, 46)}
"""The attacks that this version must answer, of the matrix of all."""

TESTS = {
    name
    for path in sorted((ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


def test_every_attack_has_a_promise_and_a_test_that_is_there() -> None:
    """By their names, which say what they promise."""
    rows = table("security.md", "#", "Attack", "Promise", "Shown by")
    assert set(map(str, ROWS)) <= set(rows)
    for number, row in rows.items():
        assert row["Promise"].endswith("."), number
        named = names_in(row["Shown by"])
        assert named, number
        assert named <= TESTS, (number, named - TESTS)


def test_every_test_that_is_named_is_there() -> None:
    """In the text as well."""
    assert set(re.findall(r"`(test_\w+)`", text_of("security.md"))) <= TESTS | {"test_bad_requests"}


def test_no_address_is_made_up_to_report_to() -> None:
    """Whoever finds something writes where it is read."""
    text = text_of("security.md")
    assert "private security advisories" in text
    assert not re.search(r"\w@\w|https?://|mailto:", text)


def test_what_an_operator_is_told_to_set_can_be_set() -> None:
    """Each setting of the list exists."""
    named = re.findall(r"`([a-z]+)\.([a-z_]+)`", text_of("security.md"))
    for section, name in named:
        field = Settings.model_fields[section].annotation
        assert name in field.model_fields, (section, name)  # type: ignore[union-attr]  # each is a section
