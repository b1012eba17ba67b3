"""What a process and the kernel hold, read from outside."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.load import Address, ask, request

SS = shutil.which("ss", path="/bin:/usr/bin:/sbin:/usr/sbin")
KIB = 1024


async def fetch(address: Address, path: str) -> tuple[int, bytes]:
    """Status and body of a GET."""
    client = await ask(address, request("GET", path, Connection="close"))
    async with asyncio.timeout(20):
        await client.done
    return client.status, client.body


async def dashboard(address: Address) -> dict[str, Any]:
    """`/metrics/streaming`."""
    _, body = await fetch(address, "/metrics/streaming")
    figures: dict[str, Any] = json.loads(body)
    return figures


async def samples(address: Address) -> dict[str, float]:
    """`/metrics`: each sample by its name and labels, as `name{label=value,…}`."""
    status, body = await fetch(address, "/metrics")
    if status != 200:  # no room at the moment
        await asyncio.sleep(0.1)
        return await samples(address)
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def total(found: dict[str, float], name: str) -> float:
    """The sum of a series over its labels; 0 where there is none yet."""
    return sum(value for key, value in found.items() if key.partition("{")[0] == name)


async def until(
    address: Address, condition: Callable[[dict[str, float]], bool], limit_s: float = 20.0
) -> dict[str, float]:
    """Wait until the samples are as they should be; all of them then."""
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(limit_s):
            while True:
                found = await samples(address)
                if condition(found):
                    return found
                await asyncio.sleep(0.05)
    except TimeoutError:
        told = {name: value for name, value in found.items() if name.startswith("ssegw_") and "_bucket" not in name}
        raise AssertionError(f"it did not come to that: {told}") from None


async def becomes(address: Address, limit_s: float = 20.0, **wanted: float) -> dict[str, float]:
    """Wait until the sums of these series are what is wanted; all samples then."""
    return await until(
        address, lambda found: all(total(found, name) == value for name, value in wanted.items()), limit_s
    )


def kernel_bytes(port: int | None = None, path: str | None = None) -> int:
    """Memory that the kernel holds for the server's ends of connections to a TCP port or to a unix socket."""
    which = ["-t", f"sport = :{port}"] if path is None else ["-x", "src", f"unix:{path}"]
    done = subprocess.run([SS or "ss", "-mnH", *which], check=True, capture_output=True, text=True, timeout=20)
    held = 0
    for found in re.finditer(r"skmem:\(([^)]*)\)", done.stdout):
        fields = dict(re.findall(r"([a-z]+)(\d+)", found[1]))
        # r and w: what is queued either way; t: what a unix socket's peer has not read; f: kept in reserve.
        held += int(fields["r"]) + max(int(fields["w"]), int(fields["t"])) + int(fields["f"])
    return held


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return (int(own[1]) * KIB if own else 0) + sum(rss_bytes(int(child)) for child in children)
