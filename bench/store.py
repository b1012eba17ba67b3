"""A private Redis for gateways that share their streams, and what it and they say of it while the figures count."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import redis

from bench.load import Load
from bench.spawning import BenchError, free_port, spawn

START_LIMIT_S = 10.0
LOOK_S = 1.0
"""Between two looks: one costs the gateway a few milliseconds."""
STARTED_S = 1.0
"""For the process of the load to begin, whose times count from then on."""
FINISHED_MAX = 50
"""Of so many finished streams the memory is asked for."""
Figures = dict[str, Any]


def find_redis() -> str | None:
    """The Redis of this machine, or Valkey."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class Store:
    """A Redis on a free port of loopback, set up as the documents say: it appends to its file every second."""

    def __init__(self, folder: Path, place_it: Callable[[], None]) -> None:
        program = find_redis()
        if program is None:
            raise BenchError("there is no redis-server here")
        folder.mkdir()
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5)
        where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        keeps = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = spawn([program, *where, *keeps], place_it, **quiet)
        self._wait_ready()

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(redis.RedisError):
                self.client.ping()
                return
            time.sleep(0.02)
        raise BenchError("redis-server does not answer")

    def stop(self) -> None:
        """End it; its folder is somebody else's to remove."""
        self.client.close()
        self._process.kill()
        self._process.wait()


class Sampler:
    """Looks at Redis and at one gateway while a load runs; `look` may be called as often as one likes."""

    def __init__(self, store: Store, port: int, load: Load) -> None:
        self._store, self._load = store, load
        self._url = f"http://127.0.0.1:{port}/metrics/streaming"
        now = time.monotonic()
        self._due = now + load.warm_s + STARTED_S
        self._end = now + load.end_s
        self._exposed: list[int] = []
        self._moments: list[tuple[float, Figures]] = []

    def look(self) -> None:
        """A look, if one is due and the figures count."""
        now = time.monotonic()
        if not self._due <= now < self._end:
            return
        self._due = now + LOOK_S
        self._moments.append((now, self._store.client.info("all")))
        with contextlib.suppress(OSError), urllib.request.urlopen(self._url, timeout=2) as response:
            self._exposed.append(json.load(response).get("shared_store", {}).get("exposed_events", 0))

    def told(self, tok_s: float) -> Figures:
        """What Redis took for a token, what was at stake, and what a finished stream takes."""
        found: Figures = {"finished": self._finished()}
        if self._exposed:
            found["exposed"] = {"mean": fmean(self._exposed), "max": max(self._exposed), "n": len(self._exposed)}
        if len(self._moments) > 1 and tok_s:
            found |= self._per_token(tok_s)
        return found

    def _per_token(self, tok_s: float) -> Figures:
        (began, before), (ended, after) = self._moments[0], self._moments[-1]
        tokens = tok_s * (ended - began)
        calls = {name: _calls(after, name) - _calls(before, name) for name in after if name.startswith("cmdstat_")}
        calls.pop("cmdstat_info", None)
        cpu_s = _cpu_s(after) - _cpu_s(before)
        taken = after["total_net_input_bytes"] - before["total_net_input_bytes"]
        return {
            "commands_per_token": round(sum(calls.values()) / tokens, 4),
            "commands": {name.removeprefix("cmdstat_"): count for name, count in calls.items() if count},
            "us_per_token": round(1e6 * cpu_s / tokens, 3),
            "bytes_per_token": round(taken / tokens, 1),
        }

    def _finished(self) -> Figures:
        """Memory of the log and of what is known beside it, of streams that came to their end."""
        client, found = self._store.client, list[tuple[int, int, int]]()
        for meta in client.scan_iter(match="*:meta", count=1000):
            if len(found) == FINISHED_MAX:
                break
            log = meta.removesuffix(":meta") + ":log"
            if client.hget(meta, "state") == "completed" and (entries := client.xlen(log)):
                found.append((client.memory_usage(log, 0) or 0, client.memory_usage(meta, 0) or 0, entries))
        if not found:
            return {"n": 0}
        log_bytes, meta_bytes, per_stream = (round(fmean(column), 1) for column in zip(*found, strict=True))
        return {
            **{"n": len(found), "tokens": self._load.tokens, "entries": per_stream},
            **{"log_bytes": log_bytes, "meta_bytes": meta_bytes, "kb": round((log_bytes + meta_bytes) / 1024, 2)},
        }


def _calls(info: Figures, name: str) -> int:
    return int(info.get(name, {}).get("calls", 0))


def _cpu_s(info: Figures) -> float:
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])
