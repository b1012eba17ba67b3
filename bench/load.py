"""What a run of the load is to do, as data that one process hands to another."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

OPENAI = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "Say something."}]}


@dataclass(frozen=True)
class Request:
    """What the clients ask for."""

    path: str = "/v1/chat/completions"
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=lambda: OPENAI)

    def encoded(self, port: int) -> bytes:
        """The bytes of the request."""
        payload = json.dumps(self.body).encode()
        named = {
            **{"Host": f"127.0.0.1:{port}", "Accept": "text/event-stream", "Content-Type": "application/json"},
            **{"Content-Length": str(len(payload))},
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + payload


@dataclass(frozen=True)
class Load:
    """How many streams, how fast, for how long. Times are in seconds from the start of the run."""

    streams: int
    rate: float = 50.0
    """Tokens a second in each stream; 0 is all at once."""
    tokens: int = 200
    ttft_ms: float = 50.0
    ramp_per_s: float = 0.0
    """Streams opened a second; 0 is all at once."""
    warm_s: float = 0.0
    """The figures count from here on."""
    end_s: float = 10.0
    once: bool = False
    """A stream that has ended is not replaced."""
    reuse: bool = False
    """Connections are kept for the next request."""
    abort_share: float = 0.0
    """Of the clients, how many hang up after their first token."""
    readers: int = 1
    """Readers of each stream; those beyond the first attach by its id."""


@dataclass(frozen=True)
class Order:
    """One run: the load, where it goes, and whose use of the machine is to be counted."""

    load: Load
    upstream_port: int
    ports: list[int]
    pids: list[int]
    request: Request = field(default_factory=Request)

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` has written."""
        told = json.loads(text)
        return cls(**{**told, "load": Load(**told["load"]), "request": Request(**told["request"])})
