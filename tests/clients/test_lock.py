"""The npm packages of these tests can be installed from any registry, and are the same everywhere."""

import json
import re

from tests.clients.node import HERE


def test_the_lock_file_names_no_host() -> None:
    """No `resolved`, no funding page: whoever installs decides from where."""
    assert "://" not in (HERE / "package-lock.json").read_text()
    assert "omit-lockfile-registry-resolved=true" in (HERE / ".npmrc").read_text()


def test_every_package_is_pinned_and_has_its_hash() -> None:
    """Exact versions, and the integrity of each."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    locked = json.loads((HERE / "package-lock.json").read_text())["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(package.get("integrity") for path, package in locked.items() if path)
