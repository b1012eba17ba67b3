"""A real nginx around the shipped configuration, with other ports and paths but the same rules.

    with Nginx(folder, upstreams=["127.0.0.1:18001", "unix:/tmp/x/http.sock"]) as edge:
        requests go to edge.url (HTTP/1.1) and edge.tls_url (TLS, HTTP/2; trust edge.certificate)

Only listen ports, upstream servers, certificate and log paths are replaced; each must be found in the
shipped file, or it no longer looks as expected and nothing is rendered.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fleet.children import ROOT, FleetError, end, found, free_ports, listens, tethered

SHIPPED = ROOT / "nginx"
MISSING = found("nginx") is None or found("openssl") is None
SERVER = r" {4}server 127\.0\.0\.1:\d+"
START_LIMIT_S = 10.0

# What Debian's nginx.conf says in http{}: the shipped file must load beside it, so nothing may be set twice.
MAIN = """\
{user}
worker_processes {workers};
pid nginx.pid;
error_log startup.log;
worker_shutdown_timeout 15m;
worker_rlimit_core 0;
events {{ worker_connections {connections}; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    access_log default-access.log;
    gzip on;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    include conf.d/*.conf;
}}
"""


def replace(text: str, pattern: str, replacement: str, *, count: int = 1) -> str:
    """The text with exactly `count` matches replaced; any other number means the shipped file has changed."""
    changed, found = re.subn(pattern, lambda _match: replacement, text, flags=re.MULTILINE)
    if found != count:
        raise FleetError(f"{pattern!r} is in nginx/gateway.conf {found} times, not {count}")
    return changed


def render(directory: Path, upstreams: Sequence[str], *, port: int, tls_port: int, workers: int = 1) -> Path:
    """Write the shipped configuration into the directory with these ports and upstreams; return its main file.

    An upstream is what nginx calls an address: "127.0.0.1:18001" or "unix:/path/to.sock".
    """
    if not upstreams:
        raise ValueError("nginx wants at least one upstream")
    directory = directory.resolve()
    text = (SHIPPED / "gateway.conf").read_text()
    line = re.search(rf"{SERVER}( [^\n]*;)", text)
    servers = "".join(f"    server {address}{line[1] if line else ';'}\n" for address in upstreams)
    text = replace(text, rf"(^{SERVER} [^\n]*\n)+", servers)
    text = replace(text, r"listen 80 ", f"listen 127.0.0.1:{port} ")
    text = replace(text, r"listen 443 ", f"listen 127.0.0.1:{tls_port} ")
    text = replace(text, "/etc/ssl/sse-gateway/", f"{directory}/", count=2)
    text = replace(text, r"/var/log/nginx/sse-gateway\.", f"{directory}/", count=2)
    for folder in ("conf.d", "snippets", "temp"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    (directory / "conf.d" / "gateway.conf").write_text(text)
    shutil.copy(SHIPPED / "stream_location.conf", directory / "snippets")
    # As root nginx would give its workers to www-data, who cannot enter a private temporary directory.
    user = "user root;" if os.geteuid() == 0 else ""
    main = directory / "nginx.conf"
    main.write_text(MAIN.format(user=user, workers=workers, connections=8192))
    return main


def make_certificate(directory: Path) -> Path:
    """A self-signed certificate for localhost and 127.0.0.1, its key beside it, under the shipped names."""
    certificate = directory / "fullchain.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(directory / "privkey.pem"), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return certificate


def check(directory: Path) -> str:
    """What `nginx -t` says about a rendered directory; raises with its words when it is not content."""
    done = subprocess.run(_command(directory, "-t"), check=False, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise FleetError(done.stderr)
    return done.stderr


def _command(directory: Path, *more: str) -> list[str]:
    """nginx with everything it reads and writes inside the directory."""
    home = str(directory.resolve())
    return [found("nginx") or "nginx", "-p", home, "-c", f"{home}/nginx.conf", "-e", f"{home}/startup.log", *more]


class Nginx:
    """One nginx between `with` and its end; it is known by its process id and nothing else is touched."""

    def __init__(self, directory: Path, upstreams: Sequence[str], *, port: int = 0, workers: int = 1) -> None:
        self.directory = directory.resolve()
        self.port, self.tls_port = free_ports(2)
        self.port = port or self.port
        self.url = f"http://127.0.0.1:{self.port}"
        self.tls_url = f"https://127.0.0.1:{self.tls_port}"
        self.access_log = self.directory / "access.log"
        self.error_log = self.directory / "error.log"
        self.startup_log = self.directory / "startup.log"
        self.workers = workers
        render(self.directory, upstreams, port=self.port, tls_port=self.tls_port, workers=workers)
        self.certificate = make_certificate(self.directory)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The master's process id."""
        if self._process is None:
            raise FleetError("nginx is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Return when both ports answer, or raise with what nginx said."""
        # SIGTERM ends its workers too, which a master that is killed would leave behind.
        command = tethered(_command(self.directory, "-g", "daemon off;"), signal.SIGTERM)
        with self.startup_log.open("ab") as log:
            # A process group of its own, so that workers of a master that had to be killed can be ended with it.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_LIMIT_S
        while not (listens(self.port) and listens(self.tls_port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise FleetError(f"nginx did not start: {self.startup_log.read_text()}")
            time.sleep(0.01)

    def reload(self, upstreams: Sequence[str] | None = None) -> None:
        """New workers for new requests, optionally with other upstreams; old ones finish their open streams."""
        if upstreams is not None:
            render(self.directory, upstreams, port=self.port, tls_port=self.tls_port, workers=self.workers)
            check(self.directory)
        os.kill(self.pid, signal.SIGHUP)

    def stop(self) -> None:
        """End it now, open streams too; harmless when it has ended."""
        process, self._process = self._process, None
        if process is not None:
            end(process)
