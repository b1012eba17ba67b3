"""What is measured: how each target is started, and how it is asked."""

import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.load import Request

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".bench"
LITELLM = STATE / "litellm"
NATIVE = Request("/stream", body={"query": "Say something.", "on_disconnect": "cancel"})
FOREIGN = ("GATEWAY_", "OPENAI_", "STREAMING_", "REDIS_")
"""What sets up somebody's own gateway must not set up the one that is measured."""
NGINX_CONFIG = """\
daemon off;
pid nginx.pid;
error_log error.log error;
worker_processes 1;
worker_rlimit_nofile {descriptors};
events {{ worker_connections 65000; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path temp_body;
    proxy_temp_path temp_proxy;
    fastcgi_temp_path temp_fastcgi;
    uwsgi_temp_path temp_uwsgi;
    scgi_temp_path temp_scgi;
    keepalive_requests 1000000;
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 2000; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=16384;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""
LITELLM_CONFIG = """\
model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "http://127.0.0.1:{upstream}/v1", api_key: bench}}
litellm_settings: {{request_timeout: 600, telemetry: false, set_verbose: false}}
"""


@dataclass(frozen=True)
class Place:
    """Where a target is to run: its own folder, its port, the upstream's port, how many descriptors it may have."""

    folder: Path
    port: int
    upstream: int
    descriptors: int


@dataclass(frozen=True)
class Target:
    """A program between clients and the model. `command` writes what it needs into its folder."""

    name: str
    title: str
    command: Callable[[Place], list[str]]
    request: Request = field(default_factory=Request)
    environment: dict[str, str] = field(default_factory=dict)
    store: bool = False
    """Whether its processes share a Redis, which is started for them."""

    def process_environment(self, place: Place, more: dict[str, str]) -> dict[str, str]:
        """This process's own without what sets a gateway up, and the upstream's address."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        # A stream of the bench may say more than an answer may by default.
        upstream = {
            "GATEWAY_OUTPUT__MAX_WORDS": "0",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{place.upstream}/v1",
            "OPENAI_API_KEY": "bench",
        }
        return {**clean, **upstream, **self.environment, **more}


def find_nginx() -> str | None:
    """The nginx of this machine."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _nginx(place: Place) -> list[str]:
    config = place.folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(port=place.port, upstream=place.upstream, descriptors=place.descriptors))
    home = str(place.folder)
    return [find_nginx() or "nginx", "-p", home, "-c", str(config), "-e", f"{home}/startup.log"]


def _relay(place: Place) -> list[str]:
    return [sys.executable, "-m", "bench.relay", str(place.port), str(place.upstream)]


def _gateway(place: Place) -> list[str]:
    return [sys.executable, "-m", "gateway", "serve", "--port", str(place.port)]


def _litellm(place: Place) -> list[str]:
    config = place.folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=place.upstream))
    where = ["--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]
    return [str(LITELLM / "bin" / "litellm"), "--config", str(config), *where]


def _make_litellm() -> Target:
    """It does not start without a key; a random one is made for each run."""
    key = "sk-" + secrets.token_hex(16)
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    asked = Request(headers={"Authorization": f"Bearer {key}"})
    environment = {**quiet, "LITELLM_TELEMETRY": "False", "LITELLM_MASTER_KEY": key}
    return Target("litellm", "LiteLLM", _litellm, asked, environment)


def known() -> dict[str, Target]:
    """The targets that the bench itself knows, by name."""
    targets = [
        Target("nginx", "nginx, plain relay", _nginx),
        Target("relay", "asyncio relay, bare", _relay),
        Target("gateway", "sse-gateway, OpenAI dialect", _gateway),
        Target("native", "sse-gateway, native dialect", _gateway, NATIVE),
        Target("gateway_redis", "sse-gateway with Redis", _gateway, store=True),
        _make_litellm(),
    ]
    return {target.name: target for target in targets}


def custom(text: str) -> Target:
    """A target from `name=command`; `{port}` and `{upstream}` stand for ports, a name with `-native` asks natively."""
    name, _, command = text.partition("=")
    if not name or "{port}" not in command:
        raise ValueError(f"--target wants name=command with {{port}} in the command, not {text!r}")

    def started(place: Place) -> list[str]:
        line = command.replace("{port}", str(place.port)).replace("{upstream}", str(place.upstream))
        return ["/bin/sh", "-c", f"exec {line}"]

    plain = Target(name, name, started)
    return replace(plain, request=NATIVE) if name.endswith("-native") else plain


def title_of(name: str) -> str:
    """What a target is called in tables."""
    target: Any = known().get(name)
    return target.title if target else name
