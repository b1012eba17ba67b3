"""Parts of the benchmark on their own: its upstream in a thread, a scripted server, made-up runs."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from bench.loop import Loop
from bench.upstream import Upstream

Script = list[bytes | float]
"""What a server sends, and how many seconds it waits in between."""


@contextlib.contextmanager
def upstream(**options: Any) -> Iterator[Upstream]:
    """The mock model, serving until the end of the block."""
    loop = Loop()
    served = Upstream(loop, **options)
    thread = threading.Thread(target=loop.run, args=(served,))
    thread.start()
    try:
        yield served
    finally:
        loop.stop()
        thread.join()
        served.close()
        loop.close()


@contextlib.contextmanager
def scripted(*scripts: Script) -> Iterator[int]:
    """A server that answers its connections one after the other with these scripts, then closes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, scripts))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def _answer(listener: socket.socket, scripts: tuple[Script, ...]) -> None:
    listener.settimeout(10)
    for script in scripts:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            connection.recv(65536)
            for step in script:
                if isinstance(step, bytes):
                    connection.sendall(step)
                else:
                    time.sleep(step)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def token(ago_ms: float = 0) -> bytes:
    """A chunk with one token that was sent so long ago."""
    stamp = time.monotonic_ns() - int(ago_ms * 1e6)
    return chunk(b'data: {"token":"t%016d "}\n\n' % stamp)


def chunk(data: bytes) -> bytes:
    """One chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def run_of(target: str, number: int = 1, scenario: str = "S2", case: str = "", **figures: Any) -> dict[str, Any]:
    """A run as the bench keeps it, with the figures that matter."""
    times = {"n": 1, "p50": 1.0, "p90": 1.0, "p99": 2.0, "max": 3.0}
    told = {
        **{"scenario": scenario, "case": case, "target": target, "round": number, "streams": 500, "tok_s": 24750.0},
        **{"us_per_token": 20.0, "us_per_request": 100.0, "done_s": 100.0, "cpu_pct": 50.0, "load_pct": 60.0},
        **{"foreign_pct": 1.0, "rss_peak_mb": 50.0, "kb_per_stream": 10.0, "ends": {"completed": 5}},
        **{"latency_ms": times, "ttft_ms": times, "connected_ms": times, "hangups": {"aborts": 1, "seen_ms": times}},
    }
    return {**told, **figures}


def session_of(*runs: dict[str, Any]) -> dict[str, Any]:
    """A session with these runs."""
    return {
        **{"date": "2026-01-01 00:00 UTC", "revision": "abc", "versions": {"Python": "3.11"}, "failures": []},
        "machine": {"processor": "P", "cores": 2, "memory_mb": 1024, "kernel": "Linux 6"},
        "options": {"rounds": 1, "targets": [], "placing": "not pinned"},
        "runs": list(runs),
    }
