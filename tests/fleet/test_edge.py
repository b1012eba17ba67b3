"""The edge and the store: the shipped nginx configuration around a fleet, and a private Redis, both gone at the end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet import edge
from fleet.children import PREFIX, FleetError, free_port, free_ports, home, listens
from fleet.edge import Nginx, check, make_certificate, render
from fleet.store import Store
from tests.house import eventually

TETHERED = "import subprocess, sys, time; from fleet.children import tethered; "
TETHERED += "print(subprocess.Popen(tethered(['sleep', '60'])).pid, flush=True); time.sleep(60)"


def gone(pid: int, limit_s: float = 5.0) -> bool:
    """Whether a process has ended, waiting for it a little."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def listed(folder: Path) -> bool:
    """Whether a folder is there."""
    return folder.exists()


@pytest.mark.skipif(edge.MISSING, reason="nginx or openssl is not installed")
def test_nginx_takes_the_configuration_of_several_gateways(tmp_path: Path) -> None:
    """The shipped file with as many servers as there are gateways, each as it is written there."""
    ports = free_ports(5)
    render(tmp_path, [f"127.0.0.1:{port}" for port in ports[:3]], port=ports[3], tls_port=ports[4])
    make_certificate(tmp_path)
    assert "warn" not in check(tmp_path)
    text = (tmp_path / "conf.d" / "gateway.conf").read_text()
    for port in ports[:3]:
        assert f"\n    server 127.0.0.1:{port} max_fails=0;\n" in text


def test_a_shipped_file_that_looks_otherwise_is_not_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the fleet would listen on port 80 without a word."""
    (tmp_path / "gateway.conf").write_text("server { listen 8080; }")
    monkeypatch.setattr(edge, "SHIPPED", tmp_path)
    with pytest.raises(FleetError, match="0 times"):
        render(tmp_path / "out", ["127.0.0.1:1"], port=2, tls_port=3)


@pytest.mark.skipif(edge.MISSING, reason="nginx or openssl is not installed")
def test_nginx_listens_on_its_port_until_it_ends(tmp_path: Path) -> None:
    """And its workers go with it."""
    port = free_port()
    with Nginx(tmp_path, [f"127.0.0.1:{free_port()}"], port=port) as running:
        assert running.url == f"http://127.0.0.1:{port}"
        assert listens(port)
    assert not running.running
    assert not listens(port)


async def asked(store: Store, *command: str) -> str:
    """What the store answers to a command."""
    ask = ["redis-cli", "-s", str(store.socket), *command]
    process = await asyncio.create_subprocess_exec(*ask, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode()


async def test_a_store_keeps_what_was_written_when_it_is_killed_and_started_again() -> None:
    """It writes its file, never evicts, and answers on its own socket only."""
    with home() as folder, Store(folder) as store:
        assert "noeviction" in await asked(store, "config", "get", "maxmemory-policy")
        await asked(store, "set", "key", "value")
        await asyncio.sleep(1.2)  # its file is written once a second
        store.signal(signal.SIGKILL)
        await eventually(lambda: not store.running)
        store.start()
        assert await asked(store, "get", "key") == "value\n"
        pid = store.pid
    assert gone(pid)
    assert not listed(folder)


def test_what_is_tethered_ends_when_its_starter_is_killed() -> None:
    """The kernel sees to it."""
    command = [sys.executable, "-c", TETHERED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert not gone(pid, 0.2)
        starter.kill()
    assert gone(pid)


def test_the_folder_of_a_fleet_that_was_killed_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While that of a fleet that runs is left alone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / "lock").touch()
    with home() as first, home() as second:
        assert not left.exists()
        assert first.exists()
        assert second.exists()
    assert os.listdir(tmp_path) == []


def test_free_ports_are_different_and_skip_what_is_taken(tmp_path: Path) -> None:
    """From a first one on, so that a fleet's ports stand side by side where they can."""
    assert len(set(free_ports(20))) == 20
    first = free_port()
    if not edge.MISSING:
        with Nginx(tmp_path, ["127.0.0.1:1"], port=first):
            assert first not in free_ports(2, first=first)
    with pytest.raises(FleetError):
        free_ports(1, first=65536)
