"""The routes around the streams, described: conversations, preferences, tickets, health, metrics and pages."""

from gateway.errors import Code
from gateway.routes.description.operation import JSON, Answer, Operation, whole
from gateway.routes.description.parameters import CALLER, NAMED
from gateway.routes.description.refusals import BODY, FOUND, KNOWN


def _page(*types: str) -> Answer:
    return Answer(200, "The file.", {kind: {"type": "string"} for kind in types})


AROUND: tuple[Operation, ...] = (
    Operation(
        "POST", "/stream/tickets", "Streams", "makeTicket", "Make a ticket for a browser",
        (whole(200, "The ticket, and the session that it is for.", "Ticket"),),
        (*KNOWN, *BODY),
        (*NAMED, *CALLER),
        body="TicketRequest",
        needs_body=False,
        example={"user_id": "u-1"},
        detail="A ticket stands in the query, where headers cannot be set. It opens one stream in its time, and then "
        "reads that one again.",
    ),
    Operation(
        "POST", "/stream/{sid}/feedback", "Streams", "rateStream", "Say what an answer was worth",
        (whole(200, "It is counted.", "Rating"),),
        (*KNOWN, *BODY, *FOUND, Code.NOT_FOUND),
        ("sid", *NAMED, *CALLER),
        body="Feedback",
        example={"rating": 5},
        detail="From 1 to 5. Said again it replaces what was said. Comments are not kept.",
    ),
    Operation(
        "GET", "/sessions/{session}", "Conversations", "readSession", "What is remembered of a conversation",
        (whole(200, "Its messages, the oldest first.", "Session"),),
        (*KNOWN, Code.SESSION_NOT_FOUND),
        ("session", *NAMED, *CALLER),
    ),
    Operation(
        "DELETE", "/sessions/{session}", "Conversations", "forgetSession", "Forget a conversation",
        (Answer(204, "It is forgotten."),),
        (*KNOWN, Code.SESSION_NOT_FOUND),
        ("session", *NAMED, *CALLER),
    ),
    Operation(
        "GET", "/preferences", "Conversations", "readPreferences", "How the user likes to be answered",
        (whole(200, "What was said last; null where nothing was.", "Preferences"),),
        KNOWN,
        ("user", "session_id", *CALLER),
        detail="A user is needed.",
    ),
    Operation(
        "PUT", "/preferences", "Conversations", "setPreferences", "Say how the user likes to be answered",
        (whole(200, "What is in force now.", "Preferences"),),
        (*KNOWN, *BODY),
        ("user", "session_id", *CALLER),
        body="Preferences",
        example={"updates": "batched", "response": "concise"},
        detail="In place of all that was said before. A user is needed.",
    ),
    Operation(
        "GET", "/health/live", "Operation", "live", "Whether the process turns",
        (whole(200, "It does.", "Health"),),
        is_open=True,
    ),
    Operation(
        "GET", "/health/ready", "Operation", "ready", "Whether the process takes new streams",
        (whole(200, "It does.", "Health"), whole(503, "It is going away, or its store is.", "Health")),
        is_open=True,
    ),
    Operation(
        "GET", "/health/streaming", "Operation", "dependencies", "Each dependency with its latency",
        (whole(200, "All are well.", "Dependencies"), whole(503, "One is away.", "Dependencies")),
        is_open=True,
    ),
    Operation(
        "GET", "/metrics", "Operation", "metrics", "Metrics for Prometheus",
        (Answer(200, "The text exposition format.", {"text/plain": {"type": "string"}}),),
        is_open=True,
    ),
    Operation(
        "GET", "/metrics/streaming", "Operation", "figures", "The same figures as JSON",
        (whole(200, "For a dashboard.", "Figures"),),
        is_open=True,
    ),
    Operation("GET", "/", "Pages", "chatPage", "The chat page", (_page("text/html"),), is_open=True),
    Operation(
        "GET", "/static/{name}", "Pages", "file", "Style sheets, scripts and pictures of the pages",
        (_page("text/css", "text/javascript", "text/html", "image/svg+xml"),),
        (Code.NOT_FOUND,),
        ("file",),
        is_open=True,
    ),
    Operation("GET", "/docs", "Pages", "docsPage", "This description as a page", (_page("text/html"),), is_open=True),
    Operation(
        "GET", "/openapi.json", "Pages", "description", "This description",
        (Answer(200, "An OpenAPI document.", {JSON: {"type": "object"}}),),
        is_open=True,
    ),
)  # fmt: skip
