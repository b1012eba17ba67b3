"""sd_notify: tells systemd that we are ready, alive, or going away. Source: sd_notify(3)."""

import os
import socket


def notify(message: str, address: str | None = None) -> None:
    """Send `message` to the socket that systemd named; nothing happens where there is none."""
    path = address or os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    if path.startswith("@"):
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.connect(path)
            sender.sendall(message.encode())
        except OSError:
            return


def watchdog_interval_s() -> float | None:
    """How often systemd wants to hear from us: half of its patience, None where it does not watch."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000
