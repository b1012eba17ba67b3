"""The shipped configuration in a real nginx: what it says while the gateway is away, what it lets through."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.nginx import MISSING, SHIPPED, Nginx, check, free_port, make_certificate, render
from tests.test_openapi import DOCUMENT

pytestmark = pytest.mark.skipif(MISSING, reason="nginx or openssl is not installed")

EVENTS = {"Accept": "text/event-stream"}
OUTSIDE = "127.0.0.2"  # an address of loopback that is not the one the rules call "this host"
SECRET = "my-medical-history"


class Answer(NamedTuple):
    """One HTTP answer, whole."""

    status: int
    headers: dict[str, str]
    text: str


def ask(edge: Nginx, method: str, path: str, headers: dict[str, str] | None = None, *, at: str = "") -> Answer:
    """One request over plain HTTP on a connection of its own, from another address if `at` names one."""
    connection = HTTPConnection("127.0.0.1", edge.port, timeout=10, source_address=(at, 0) if at else None)
    try:
        connection.request(method, path, b"{}" if method == "POST" else None, headers or {})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read().decode())
    finally:
        connection.close()


class Upstream(BaseHTTPRequestHandler):
    """Stands where a gateway stands: echoes what reached it, streams in two halves, or dies with a request in hand."""

    protocol_version = "HTTP/1.1"
    second_half = threading.Event()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/die"):
            self.close_connection = True
            return
        streams = self.path.endswith("/halves")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if streams:
            self.chunk(b'data: "first"\n\n')
            self.second_half.wait(10)
            self.chunk(b'data: "second"\n\n')
        else:
            self.chunk(json.dumps({name.lower(): value for name, value in self.headers.items()}).encode())
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, format: str, *args: object) -> None:
        """Tests need no log."""

    do_GET = do_POST = answer


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx with two gateways, both away: one refuses connections, the other's socket does not exist."""
    directory = tmp_path_factory.mktemp("away")
    with Nginx(directory, [f"127.0.0.1:{free_port()}", f"unix:{directory}/none.sock"]) as running:
        yield running


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The address of what stands for a gateway."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def alive(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx with two gateways, one of them alive."""
    with Nginx(tmp_path_factory.mktemp("alive"), [upstream, f"127.0.0.1:{free_port()}"]) as running:
        yield running


def retry_block(text: str) -> tuple[int, dict[str, str]]:
    """The retry time in ms and the data of a body that is one whole block."""
    found = re.fullmatch(r"retry: (\d+)\nevent: status\ndata: (\{.*\})\n\n", text)
    assert found, text
    return int(found[1]), json.loads(found[2])


@pytest.mark.parametrize("address", ["127.0.0.1:8001", "unix:/run/sse-gateway-8001/http.sock"])
def test_nginx_is_content_with_the_shipped_files(tmp_path: Path, address: str) -> None:
    render(tmp_path, [address], port=free_port(), tls_port=free_port())
    make_certificate(tmp_path)
    assert "warn" not in check(tmp_path)


@pytest.mark.parametrize("path", ["/stream?query=hi", "/stream/4fzyo82mVyr5LGj1BvQeXa", "/"])
def test_a_browser_is_told_to_come_back_when_no_gateway_is_there(edge: Nginx, path: str) -> None:
    answer = ask(edge, "GET", path, EVENTS)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    retry_ms, data = retry_block(answer.text)
    assert 1000 <= retry_ms <= 4200
    assert (data["state"], data["code"]) == ("retry", "UPSTREAM_AWAY")


def test_the_same_holds_over_tls_and_http2(edge: Nginx) -> None:
    command = ["curl", "-sS", "--http2", "--cacert", str(edge.certificate), "-w", "%{http_version} %{http_code}"]
    command += ["-H", "Accept: text/event-stream", f"{edge.tls_url}/stream"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    body, version = done.stdout.rsplit("\n", 1)
    assert version == "2 200"
    retry_block(body + "\n")


def test_clients_do_not_come_back_in_the_same_instant(edge: Nginx) -> None:
    assert len({retry_block(ask(edge, "GET", "/stream", EVENTS).text)[0] for _ in range(60)}) >= 3


def test_a_widget_on_a_foreign_page_can_read_that_it_may_come_back(edge: Nginx) -> None:
    headers = ask(edge, "GET", "/stream", {**EVENTS, "Origin": "https://shop.example"}).headers
    assert headers["access-control-allow-origin"] == "https://shop.example"
    assert headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(("method", "headers"), [("POST", {}), ("POST", EVENTS), ("GET", {}), ("DELETE", EVENTS)])
def test_any_other_client_gets_an_honest_503(edge: Nginx, method: str, headers: dict[str, str]) -> None:
    answer = ask(edge, method, "/stream", headers)
    assert (answer.status, answer.headers["content-type"]) == (503, "application/json")
    assert int(answer.headers["retry-after"]) > 0
    error = json.loads(answer.text)
    assert set(error) == {"status", "code", "message", "error", "retryable", "timestamp"}
    assert (error["status"], error["code"], error["retryable"]) == (503, "UPSTREAM_AWAY", True)
    assert abs(error["timestamp"] / 1000 - time.time()) < 60


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_openai_client_gets_its_own_envelope_and_never_an_event(edge: Nginx, method: str) -> None:
    answer = ask(edge, method, "/v1/chat/completions", EVENTS)
    assert answer.status == 503
    assert json.loads(answer.text)["error"]["code"] == "UPSTREAM_AWAY"
    assert "x-should-retry" not in answer.headers


def test_a_completion_that_reached_a_gateway_is_not_asked_for_twice(upstream: str, tmp_path: Path) -> None:
    with Nginx(tmp_path, [upstream]) as alone:
        lost = ask(alone, "POST", "/v1/die")
        keyed = ask(alone, "POST", "/v1/die", {"Idempotency-Key": "k1"})
    assert (lost.status, lost.headers.get("x-should-retry")) == (503, "false")
    assert (keyed.status, keyed.headers.get("x-should-retry")) == (503, None)


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/streaming", "/health/streaming", "//metrics", "/%6detrics", "/stream/../metrics",
     "/static/%2e%2e/metrics"],
)  # fmt: skip
def test_what_is_inside_does_not_exist_outside(alive: Nginx, path: str) -> None:
    answer = ask(alive, "GET", path, at=OUTSIDE)
    assert (answer.status, json.loads(answer.text)["code"]) == (404, "NOT_FOUND")
    assert ask(alive, "GET", path).status == 200


@pytest.mark.parametrize("path", ["/admin", "/admin/flags", "/streamers", "/static/../admin/flags", "/debug"])
def test_what_is_not_listed_has_no_way_through_for_anybody(alive: Nginx, path: str) -> None:
    assert ask(alive, "GET", path).status == 404


@pytest.mark.parametrize("path", ["/", "/static/x.js", "/widget.js", "/dashboard/streaming", "/health/live",
                                  "/health/ready", "/stream", "/stream/x", "/v1/models", "/streams", "/sessions/s-1",
                                  "/preferences", "/stream/tickets"])  # fmt: skip
def test_what_is_public_is_reached_from_outside_with_one_of_two_gateways_down(alive: Nginx, path: str) -> None:
    answers = [ask(alive, "GET", path, at=OUTSIDE) for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in answers)


def test_a_client_cannot_say_who_it_is_by_a_header(alive: Nginx) -> None:
    claims = ["X-Tenant", "X-Tenant-Id", "X-Tenant-Name", "X-User"]
    claims += [
        "X_Tenant_Id",
        "X_Tenant_Hash",
        "X_User_Id",
        "X_API_Key",
        "Forwarded",
        "Proxy",
        "X-Request-Id",
        "X-Forwarded-Host",
    ]
    claimed = dict.fromkeys(claims, "evil") | {"X-Forwarded-For": "9.9.9.9", "X-Real-IP": "9.9.9.9"}
    reached = json.loads(ask(alive, "POST", "/stream", claimed, at=OUTSIDE).text)
    assert "evil" not in reached.values()
    assert reached["x-forwarded-for"] == reached["x-real-ip"] == OUTSIDE
    assert re.fullmatch(r"[0-9a-f]{32}", reached["x-request-id"])


def test_what_the_gateway_checks_itself_reaches_it(alive: Nginx) -> None:
    shown = ["Authorization", "X-API-Key", "X-Tenant-Hash", "X-User-Id", "X-Session-Id", "Origin", "Last-Event-ID"]
    reached = json.loads(ask(alive, "POST", "/stream", dict.fromkeys(shown, "as it came")).text)
    assert {name: reached.get(name.lower()) for name in shown} == dict.fromkeys(shown, "as it came")


@pytest.mark.parametrize(("wanted", "passed"), [("h2c", None), ("websocket", "websocket")])
def test_only_websocket_may_change_the_protocol(alive: Nginx, wanted: str, passed: str | None) -> None:
    reached = json.loads(ask(alive, "GET", "/stream", {"Connection": "Upgrade", "Upgrade": wanted}).text)
    assert reached.get("upgrade") == passed
    assert reached.get("connection") == ("upgrade" if passed else None)


@contextmanager
def half_a_stream(edge: Nginx) -> Iterator[HTTPResponse]:
    """A stream whose first event has come, while the second has not been sent; then the rest of it."""
    Upstream.second_half.clear()
    connection = HTTPConnection("127.0.0.1", edge.port, timeout=5)
    connection.request("GET", "/stream/halves", headers={**EVENTS, "Accept-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.read1() == b'data: "first"\n\n'
    yield response
    Upstream.second_half.set()
    assert response.read() == b'data: "second"\n\n'
    connection.close()


def test_a_stream_comes_event_by_event_and_never_compressed(alive: Nginx) -> None:
    with half_a_stream(alive) as response:
        assert response.getheader("Content-Encoding") is None


def test_a_process_that_is_back_gets_all_its_readers_at_once(tmp_path: Path) -> None:
    """Though it failed just before, and none of the streams that it carries since then has ended."""
    port = free_port()
    with Nginx(tmp_path, [f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"]) as edge:
        for _ in range(6):
            retry_block(ask(edge, "GET", "/stream", EVENTS).text)
        server = ThreadingHTTPServer(("127.0.0.1", port), Upstream)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with ExitStack() as streams:
            for _ in range(6):
                streams.enter_context(half_a_stream(edge))
        server.shutdown()
        server.server_close()


def test_a_reload_leaves_an_open_stream_whole(alive: Nginx) -> None:
    with half_a_stream(alive):
        alive.reload()
        time.sleep(0.3)
        assert ask(alive, "GET", "/").status == 200


def test_a_body_that_is_too_large_is_refused_in_the_gateways_words(edge: Nginx) -> None:
    command = ["curl", "-sS", "-w", "\n%{http_code}", "--data-binary", "@-", f"{edge.url}/stream"]
    done = subprocess.run(command, input=b"x" * (2 * 2**20 + 1), capture_output=True, timeout=10, check=True)
    body, status = done.stdout.rsplit(b"\n", 1)
    assert (status, json.loads(body)["code"]) == (b"413", "BODY_TOO_LARGE")


def test_one_address_cannot_take_everything_and_this_host_is_free_of_limits(tmp_path: Path) -> None:
    with Nginx(tmp_path, [f"127.0.0.1:{free_port()}"]) as fresh:
        codes = [retry_block(ask(fresh, "GET", "/stream", EVENTS, at=OUTSIDE).text)[1]["code"] for _ in range(450)]
        assert codes[:300] == ["UPSTREAM_AWAY"] * 300
        assert "OVERLOADED" in codes
        refused = [ask(fresh, "POST", "/stream", at=OUTSIDE) for _ in range(100)]
        assert {answer.status for answer in refused} == {503}
        assert "OVERLOADED" in {json.loads(answer.text)["code"] for answer in refused}
        assert not any("OVERLOADED" in ask(fresh, "GET", "/stream", EVENTS).text for _ in range(450))


def test_no_log_holds_a_query_string(edge: Nginx) -> None:
    path = f"/stream/marked?query={SECRET}"
    for method in ("GET", "POST"):
        ask(edge, method, path, {**EVENTS, "Referer": f"https://shop.example/?q={SECRET}"})
    ask(edge, "GET", f"/admin?token={SECRET}")
    time.sleep(0.1)  # the line is written after the answer
    marked = [line for line in edge.requests() if line["path"] == "/stream/marked"]
    assert [line["status"] for line in marked] == [200, 503]
    assert SECRET not in "".join(path.read_text() for path in edge.directory.glob("*.log"))


def test_streams_are_neither_buffered_nor_compressed_and_no_location_loses_the_headers_inwards() -> None:
    """On a quick network neither fault shows in behaviour, so the text is read."""
    directives = [re.sub(r"\s+#.*", "", line) for line in (SHIPPED / "gateway.conf").read_text().splitlines()]
    streaming = (SHIPPED / "stream_location.conf").read_text()
    for wanted in ("proxy_buffering off;", "proxy_cache off;", "gzip off;", "proxy_ignore_client_abort off;"):
        assert re.search(rf"^{wanted}", streaming, re.MULTILINE)
    assert not any("event-stream" in line for line in directives if "gzip_types" in line)
    assert all("sndbuf=32k" in line for line in directives if line.startswith("    listen"))
    inside_a_location = [line for line in directives if line.startswith(" " * 8)]
    assert "proxy_set_header" not in streaming + "".join(inside_a_location)


@pytest.mark.parametrize("path", sorted(DOCUMENT["paths"]))
def test_what_is_described_is_reached_from_outside_or_is_for_the_inside_alone(alive: Nginx, path: str) -> None:
    """Each path of `/openapi.json`: what clients need has a way through, what describes or measures has none."""
    inside = path.startswith("/metrics") or path in ("/health/streaming", "/openapi.json", "/docs")
    spelt = path.replace("{sid}", "4fzyo82mVyr5LGj1BvQeXa").replace("{session}", "s-1").replace("{name}", "x.js")
    assert ask(alive, "GET", spelt, at=OUTSIDE).status == (404 if inside else 200)
