"""Clients that run in Node, and browsers driven from there: processes that print what they see as lines of JSON."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from tests.clients.heard import LIMIT_S, Heard, Line
from tests.house import eventually

HERE = Path(__file__).parent
CHROMIUM, FIREFOX = shutil.which("chromium"), shutil.which("firefox-esr")
MISSING = shutil.which("node") is None or not (HERE / "node_modules").is_dir()
START_LIMIT_S = 40.0


class Node:
    """One script of this folder in a process of its own; each line that it prints goes to `take`."""

    def __init__(self, script: str, *arguments: str, take: Callable[[Line], None]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            ["node", str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._take = take
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._take(orjson.loads(line))

    @property
    def over(self) -> bool:
        """Whether it has exited and all that it said is taken."""
        return self._process.poll() is not None and not self._thread.is_alive()

    @property
    def complaint(self) -> str:
        """What it said to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def write(self, line: bytes) -> None:
        """A line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End it: by the end of its input if it listens, else by a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(0.0 if self._process.poll() is not None else 10.0)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._thread.join(5)
        self._process.stdout.close()
        self._errors.close()


async def hear(script: str, *arguments: str, limit_s: float = LIMIT_S) -> Heard:
    """What a client sees from its start to its exit."""
    heard = Heard()
    node = Node(script, *arguments, take=heard.lines.append)
    try:
        await eventually(lambda: node.over, limit_s)
        assert heard.ended, node.complaint
        return heard
    finally:
        node.close()


class Browser:
    """A browser with one page, for as many tests as there are."""

    def __init__(self, kind: str, executable: str, profile: Path) -> None:
        self.kind = kind
        self._replies: dict[int, Line] = {}
        self._watches: dict[int, Heard] = {}
        self._count = 0
        self._ready = threading.Event()
        self._node = Node("browser.mjs", kind, executable, str(profile), take=self._take)
        end = time.monotonic() + START_LIMIT_S
        while not self._ready.wait(0.05):
            if self._node.over or time.monotonic() > end:
                complaint = self._node.complaint
                self._node.close()
                raise RuntimeError(f"{kind} did not start: {complaint}")

    def _take(self, line: Line) -> None:
        if "ready" in line:
            self._ready.set()
        elif "watch" in line:
            self._watches[line["watch"]].lines.append(line)
        else:
            self._replies[line["reply"]] = line

    async def ask(self, task: str, **given: Any) -> Any:
        """Have something done, and its outcome."""
        self._count += 1
        number = self._count
        self._node.write(orjson.dumps({"task": task, "reply": number, **given}))
        await eventually(lambda: number in self._replies or self._node.over, 20.0)
        reply = self._replies.pop(number, {"failure": "the browser is gone"})
        if "failure" in reply:
            raise RuntimeError(f"{self.kind}: {task}: {reply['failure']}")
        return reply["value"]

    async def watch(self, url: str, close_on: tuple[str, ...]) -> Heard:
        """Begin to read `url` with EventSource in the page that is open; what is heard grows."""
        number = len(self._watches) + 1
        heard = self._watches[number] = Heard()
        await self.ask("watch", number=number, url=url, closeOn=close_on)
        return heard

    def close(self) -> None:
        """Quit it."""
        self._node.close()
