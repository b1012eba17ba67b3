"""The shipped systemd and sysctl files: hardened, restarted at once, given the time that a drain takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SHIPPED = Path(__file__).resolve().parent.parent / "systemd"
UNIT = SHIPPED / "gateway@.service"
SYSCTL = SHIPPED / "60-sse-gateway.conf"
DRAIN_LIMIT_S = 30  # default of the gateway's `drain_s`
EXPOSURE_LIMIT = 1.5

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def options(unit: Path) -> dict[str, list[str]]:
    """Every option of a unit with its values in order; comments and section names left out."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if match := re.match(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def seconds(value: str) -> float:
    """A time span as systemd writes it, in seconds."""
    return float(value.removesuffix("ms")) / 1000 if value.endswith("ms") else float(value)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no running systemd for what is asked here."""
    return subprocess.run(["systemd-analyze", *arguments], check=False, capture_output=True, text=True, timeout=60)


@needs_analyze
def test_the_unit_is_hardly_exposed() -> None:
    done = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    level = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= EXPOSURE_LIMIT


@needs_analyze
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """Only the program is replaced, by one that exists here."""
    text = UNIT.read_text().replace("/opt/sse-gateway/.venv/bin/python", shutil.which("true") or "/bin/true")
    instance = tmp_path / "gateway@8001.service"
    instance.write_text(text)
    target = tmp_path / "gateway.target"
    shutil.copy(SHIPPED / "gateway.target", target)
    done = analyze("verify", "--man=no", str(instance), str(target))
    ours = [line for line in done.stderr.splitlines() if "gateway" in line]
    assert not ours, done.stderr


def test_the_instance_is_the_port_on_loopback() -> None:
    (command,) = options(UNIT)["ExecStart"]
    assert command == (
        "/opt/sse-gateway/.venv/bin/python -m gateway serve --host 127.0.0.1 --port %i "
        "--config /etc/sse-gateway/gateway.toml"
    )


def test_a_frozen_process_is_dead_within_seconds_and_comes_back_for_ever() -> None:
    unit = options(UNIT)
    assert (unit["Type"], unit["NotifyAccess"], unit["Restart"]) == (["notify"], ["main"], ["always"])
    assert unit["StartLimitIntervalSec"] == ["0"]
    # A stopped process does not take SIGABRT; without a limit of its own the abort would wait for the whole drain.
    frozen = seconds(unit["WatchdogSec"][0]) + seconds(unit["TimeoutAbortSec"][0]) + seconds(unit["RestartSec"][0])
    assert frozen <= 2.5


def test_a_drain_is_not_cut_short() -> None:
    unit = options(UNIT)
    assert seconds(unit["TimeoutStopSec"][0]) >= DRAIN_LIMIT_S + 10
    assert (unit["KillSignal"], unit["KillMode"]) == (["SIGTERM"], ["mixed"])


def test_descriptors_are_plenty_and_cores_are_never_written() -> None:
    unit = options(UNIT)
    assert (unit["LimitNOFILE"], unit["LimitCORE"]) == (["65536"], ["0"])


def test_it_is_nobody_and_may_change_nothing() -> None:
    unit = options(UNIT)
    assert unit["DynamicUser"] == unit["NoNewPrivileges"] == unit["PrivateUsers"] == ["yes"]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [""]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert "ReadWritePaths" not in unit


def test_secrets_stand_in_no_shipped_file() -> None:
    unit = options(UNIT)
    assert unit["EnvironmentFile"] == ["-/etc/sse-gateway/env"]
    assert not re.search(r"KEY|TOKEN|SECRET|PASSWORD|REDIS_URL", " ".join(unit["Environment"]))


def test_the_target_starts_and_stops_all_instances() -> None:
    assert options(UNIT)["WantedBy"] == options(UNIT)["PartOf"] == ["gateway.target"]
    assert options(SHIPPED / "gateway.target")["WantedBy"] == ["multi-user.target"]


def test_every_kernel_setting_exists_and_has_its_reason() -> None:
    for block in SYSCTL.read_text().strip().split("\n\n")[1:]:
        *reason, setting = block.splitlines()
        assert reason, block
        assert all(line.startswith("# ") for line in reason), block
        name, _, value = setting.partition(" = ")
        assert re.fullmatch(r"[\d ]+", value), setting
        if Path("/proc/sys/net/ipv4").is_dir():
            assert Path("/proc/sys", *name.split(".")).exists(), name


def test_the_kernel_does_not_undo_what_nginx_asks_for() -> None:
    settings = dict(re.findall(r"^(\S+) = (.+)$", SYSCTL.read_text(), re.MULTILINE))
    nginx = (SHIPPED.parent / "nginx" / "gateway.conf").read_text()
    assert {int(settings["net.core.somaxconn"])} == {int(value) for value in re.findall(r"backlog=(\d+) ", nginx)}
    first_port = int(settings["net.ipv4.ip_local_port_range"].split()[0])
    upstream_ports = [int(port) for port in re.findall(r"server 127\.0\.0\.1:(\d+)", nginx)]
    assert upstream_ports
    assert all(port < first_port for port in upstream_ports)
    assert 5 <= int(settings["net.ipv4.tcp_retries2"]) <= 6
