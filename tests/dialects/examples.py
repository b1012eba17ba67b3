"""An example of every kind of event, each with all the trouble in it that an upstream could put there."""

from typing import Any

from gateway import events
from gateway.events import Event

EVIL = 'a"\r\nevent: forged\rdata: x\n\nid: 9\0\u2028\x85 😀'
"""Everything that could end a line, a field or a string too early."""

FREE: dict[str, Any] = {"event": "forged", "k": EVIL, "n": 18446744073709551615, "f": 1e300, "deep": [{"x": None}]}

KINDS = {
    kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}
"""The closed set itself."""

EXAMPLES: list[Event] = [
    events.Opened(EVIL, FREE),
    events.Opened("m"),
    events.Status("thinking", EVIL, {"position": 1}),
    events.Metadata(FREE),
    events.Metadata({"logprobs": {"content": [{"token": EVIL, "logprob": -0.1}]}}),
    events.Text(EVIL),
    events.WholeText(""),
    events.Reasoning(EVIL),
    events.Refusal(EVIL),
    events.ToolCall(0, EVIL, EVIL, EVIL),
    events.ToolCall(1),
    events.Citation(FREE),
    events.Audio(b"\0\r\n\xff", "mp3", 24000, EVIL, 0, True, 40),
    events.AudioEvicted(0),
    events.Suggestions((EVIL, "b")),
    events.Progress(FREE),
    events.PartialResult(FREE, 0, False),
    events.Results(FREE),
    events.Custom("own_name", FREE),
    events.Warned("CODE", EVIL, {"to": 1}),
    events.TextComplete(EVIL, events.Usage(1, 2, True, {"k": EVIL})),
    events.TextComplete("stop"),
    events.Completed("completed", EVIL, None, 1, 2),
    events.Completed("cancelled", EVIL, events.Usage(1, 2, False), 1, 2),
    events.Failed("INTERNAL", EVIL, True, 500, 1, 2.0),
]
