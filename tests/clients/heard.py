"""What an application was told by its client library, whichever that is, and what it makes of it."""

import os
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

FULL = os.environ.get("SSEGW_FULL") == "1"
HEARTBEAT_S, SILENCE_S = (15.0, 62.0) if FULL else (0.12, 1.2)
"""The silence that is tested, and the heartbeats in it."""

LIMIT_S = 20.0 + 3 * SILENCE_S
"""For any client to hear any answer."""

Line = dict[str, Any]
"""`saw`: open, event, failure (an exception reached the application), lost (connection; it is tried again), end."""


@dataclass
class Heard:
    """Lines in the order in which the application saw them; `at` in them is in ms of the client's own clock."""

    lines: list[Line] = field(default_factory=list)

    def say(self, saw: str, **more: Any) -> None:
        """Note what a client in this process saw."""
        self.lines.append({"saw": saw, "at": time.monotonic() * 1000, **more})

    def saw(self, *kinds: str) -> list[Line]:
        """All lines of these kinds."""
        return [line for line in self.lines if line["saw"] in kinds]

    @property
    def names(self) -> list[str]:
        """The names of the events."""
        return [line["name"] for line in self.saw("event")]

    @property
    def ended(self) -> bool:
        """Whether the client is done."""
        return bool(self.saw("end"))

    @property
    def opens(self) -> int:
        """How often a connection was opened."""
        return len(self.saw("open"))

    @property
    def failure(self) -> Line | None:
        """The exception that reached the application."""
        return next(iter(self.saw("failure")), None)

    def data(self, name: str) -> list[Any]:
        """The data of all events of that name."""
        return [orjson.loads(line["data"]) for line in self.saw("event") if line["name"] == name]

    @property
    def text(self) -> str:
        """The answer as an application keeps it."""
        text = ""
        for data in self.data("text"):
            text = data["token"] if data.get("replace") else text + data["token"]
        return text + "".join(piece for data in self.data("chunk") if (piece := content_of(data)))

    @property
    def seqs(self) -> list[int]:
        """The places of the logged events: strictly rising when nothing came twice."""
        logged = (line for line in self.saw("event") if line["name"] not in ("connected", "close") and line.get("id"))
        return [int(line["id"].rsplit("-", 1)[1]) for line in logged]

    @property
    def last_id(self) -> str:
        """Where to come back to."""
        return next((line["id"] for line in reversed(self.saw("event")) if line.get("id")), "")

    @property
    def ending_ms(self) -> float:
        """From the last text to the end, as the application felt it."""
        last = [
            line["at"] for line in self.saw("event") if line["name"] in ("text", "chunk") and "content" in marks(line)
        ]
        return float(self.saw("end")[-1]["at"] - last[-1])


def content_of(chunk: Line) -> str:
    """The text in a chunk of Chat Completions."""
    choices = chunk.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def marks(line: Line) -> list[str]:
    """`content` when the event carries some of the answer."""
    data = orjson.loads(line["data"])
    return ["content"] if data.get("token") or content_of(data) else []
