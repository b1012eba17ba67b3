"""What nobody thought of: schemathesis asks every described route what its description allows, and what it does not."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.house import FAST, gateway_process
from tests.tenancy import ACME_KEY, write
from tests.test_openapi import OPERATIONS

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ignored_auth",
)
"""All but two, which hold a request to be good or bad by its description alone. That cannot say that a header wins over
a parameter, that one of two fields is needed, or that an id must be the path's; `test_bad_requests` does."""

FULL = "SSEGW_FULL" in os.environ
DEPTH = ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "200"]
if not FULL:
    DEPTH = ["--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--exclude-tag-regex", "Pages|Operation"]
LEAST_REQUESTS = 500
UNLIMITED = {f"GATEWAY_LIMITS__{name}": "0" for name in ("REQUESTS_PER_IP", "REQUESTS_PER_SESSION")}


def fuzz(base: str, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """What a run against `base` found, and what it said. The seed is fixed: each run asks the same."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{base}/openapi.json", "--no-color"]
    command += ["--checks", ",".join(CHECKS), *DEPTH]
    command += ["--seed", "1", "--generation-database", "none", "--request-timeout", "20", *options]
    command += ["--report", "json", "--report-json-path", str(report)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200, check=False)
    assert report.exists(), done.stdout + done.stderr
    return orjson.loads(report.read_bytes()), done.stdout


WAYS = {
    "anybody": [],
    "who wants it plainly": ["-H", "Accept: application/json"],
    "a tenant": ["-H", f"Authorization: Bearer {ACME_KEY}"],
}


@pytest.mark.parametrize("way", WAYS if FULL else ["anybody"])
def test_no_request_is_answered_with_a_fault_or_with_what_is_not_described(tmp_path: Path, way: str) -> None:
    """No 500, no status, type, body or event beside the description, in either dialect; the process lives on."""
    known = {"GATEWAY_TENANTS__FILE": str(write(tmp_path))} if way == "a tenant" else {}
    with gateway_process(port=None, **FAST, **UNLIMITED, **known) as gateway:
        found, said = fuzz(gateway.base, tmp_path, *WAYS[way])
        gateway.wait_ready()
    assert (found["failures"], found["errors"]) == ([], []), said
    assert found["operations"]["tested"] >= len(OPERATIONS) - (0 if FULL else 9), said
    assert found["test_cases"]["generated"] >= LEAST_REQUESTS, said
