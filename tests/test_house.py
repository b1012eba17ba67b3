"""The house itself: every room has its sentence, and the habits that are agreed on are kept."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "gateway").rglob("*.py"))
FUNCTION_MAX_LINES = 70

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _public(tree: ast.Module) -> list[Definition]:
    """Public classes and functions, and the public methods of public classes."""
    found: list[Definition] = []
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            found.append(node)
            if isinstance(node, ast.ClassDef):
                found += [m for m in node.body if isinstance(m, Definition) and not m.name.startswith("_")]
    return found


_ASYNCIO = ("connection_made", "data_received", "connection_lost", "pause_writing", "resume_writing")


def _overrides(path: Path, node: Definition) -> bool:
    """Verbs that only do what the base class's docstring says."""
    return path.name == "prometheus.py" or node.name in _ASYNCIO


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_public_thing_says_what_it_is(path: Path) -> None:
    """A sentence on top of each module, and one in each public class and function."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    silent = [node.name for node in _public(tree) if not ast.get_docstring(node) and not _overrides(path, node)]
    assert not silent


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_are_short(path: Path) -> None:
    """What does not fit on a screen is two things."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno <= FUNCTION_MAX_LINES, node.name


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_known_traps_are_not_stepped_into(path: Path) -> None:
    """`wait_for` swallows cancellation on Python 3.11; a task that nobody holds may be collected while it runs."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr != "wait_for"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            assert not (isinstance(called, ast.Attribute) and called.attr in ("create_task", "ensure_future"))


def test_nothing_points_outside_the_project() -> None:
    """No path of one machine, no host of a package registry."""
    for name in ("requirements.lock", "requirements-dev.lock", "tests/clients/package-lock.json"):
        text = (ROOT / name).read_text()
        assert "http://" not in text.replace("http://json-schema", "")
        assert '"resolved"' not in text
        assert "--index-url" not in text
    for path in MODULES:
        assert "/work/" not in path.read_text()
