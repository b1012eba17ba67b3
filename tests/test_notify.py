"""sd_notify: what systemd is told, over a real socket."""

import os
import socket
from pathlib import Path

import pytest

from gateway.systemd import notify, watchdog_interval_s


def test_a_message_reaches_the_socket_that_systemd_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """READY=1, by a path or by an abstract name."""
    for address in (str(tmp_path / "notify"), f"@sse-gateway-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(address.replace("@", "\0"))
            listener.settimeout(2)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            notify("READY=1")
            assert listener.recv(64) == b"READY=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither without a name nor with one that nobody listens on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    notify("READY=1", str(tmp_path / "nobody"))


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("2000000", "", 1.0),
        ("2000000", str(os.getpid()), 1.0),
        ("2000000", "1", None),
        ("", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_looks(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, expected: float | None
) -> None:
    """Only where it watches this very process."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_interval_s() == expected
