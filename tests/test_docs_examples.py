"""The examples in the documentation run: against a real gateway, and over a line that is cut."""

import asyncio
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from gateway.app.answers import documents
from gateway.sources.passages import Library
from tests.cutter import cutter
from tests.documents import ROOT, Block, blocks, names_in, table
from tests.house import FAST, Process, gateway_process

SHOWN = "http://127.0.0.1:8080"
RUNNABLE = [block for block in blocks() if "run" in block.marks]
RESUMING = [block for block in RUNNABLE if "resumes" in block.marks]
CUTS = {
    "before it has an id": [rb"id: \w{8}"],
    "in an event, between two, in an id": [rb"-1-20\n\n.{0,9}event: text\ndata", rb"-1-60\n\n", rb"id: \w{8}"],
}

COMMANDS = {
    "bash": ["bash", "-euo", "pipefail", "-c"],
    "python": [sys.executable, "-c"],
    "javascript": ["node", "--experimental-eventsource", "--no-warnings", "--input-type=module", "-e"],
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Process]:
    """One real process for all examples. It tells clients to come back soon, and thinks until its reader is there,
    who would otherwise get all of the text in one piece.
    """
    pace: dict[str, Any] = {**FAST, "GATEWAY_LOCAL__FIRST_TOKEN_MS": "100", "GATEWAY_DELIVERY__RETRY_MS": "100"}
    with gateway_process(**pace) as process:
        yield process


async def run(block: Block, base: str) -> str:
    """What a block prints with the gateway at `base`; raises with its errors when it fails."""
    code = block.code.replace(SHOWN, base).replace(".venv/bin/python", sys.executable)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "OPENAI_"))}
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[block.language],
        code,
        cwd=ROOT,
        env=kept,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(45):
            said, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, errors.decode()
    return said.decode()


def test_there_are_examples_of_every_kind() -> None:
    """A mark that was mistyped would silently take an example out of the run."""
    assert {block.language for block in RUNNABLE} == set(COMMANDS)
    assert {"run", "resumes"} >= {mark for block in blocks() for mark in block.marks}
    assert len(RUNNABLE) >= 12
    assert len(RESUMING) == 2
    assert all(block.expected for block in RUNNABLE)


@pytest.mark.parametrize("block", RUNNABLE, ids=str)
async def test_an_example_runs_and_prints_what_it_says(block: Block, gateway: Process) -> None:
    """As it stands in the document, only with this gateway's address."""
    said = await run(block, gateway.base)
    for expected in block.expected:
        assert expected in said


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("block", RESUMING, ids=str)
async def test_a_client_that_is_said_to_resume_does(block: Block, cuts: list[bytes], gateway: Process) -> None:
    """However its connection is cut, it shows the same text as if nothing had happened, and the model is asked once."""
    whole = Library.of_files(documents(["README.md", "docs"])).answer("How does resume work?").text
    async with cutter(gateway.base, cuts=cuts) as line:
        said = await run(block, line.url)
    assert said == whole + "\n"
    assert line.cut_count == len(cuts)
    assert len({sid for body in line.bodies for sid in re.findall(rb"id: (\w{22})-", body)}) == 1


@pytest.mark.parametrize("block", RESUMING, ids=str)
async def test_a_client_that_is_said_to_resume_asks_once(block: Block, gateway: Process) -> None:
    """Even when nothing of the first answer reached it: repeating the question finds the same stream."""
    async with cutter(gateway.base, swallow=1) as line:
        await run(block, line.url)
    keys = [asked.headers.get("idempotency-key") for asked in line.requests if asked.method == "POST"]
    assert len(keys) == 2
    assert keys[0] == keys[1] is not None


def test_every_field_of_the_log_is_in_its_table() -> None:
    """One JSON object a line, and no field in it that the documentation does not explain."""
    rows = table("operations.md", "Field", "Meaning")
    explained = {name for first in rows for name in names_in(f"`{first}`")}
    pace: dict[str, Any] = dict(FAST)
    with gateway_process(**pace) as process:
        urllib.request.urlopen(f"{process.base}/stream?query=log", timeout=30).close()
    lines = [orjson.loads(line) for line in process.stderr.splitlines()]
    assert {"stream opened", "stream ended", "draining"} <= {line["event"] for line in lines}
    assert {name for line in lines for name in line} - {"streams", "readers"} == explained
