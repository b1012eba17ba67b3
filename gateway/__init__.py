"""sse-gateway: one way in, a log in the middle, one way out.

Floors, top to bottom; a module imports only from floors below its own:

    cli                                     arguments only
    app                                     puts the house together
    routes/                                 parse, admit, open, deliver
    hub, delivery/, catalog                 streams of this process, one client's reading, which pipeline
    pipeline                                one source, its stages, its followers
    stages/, resilience/                    events changed in line, sources around sources
    sources/, dialects/, stores/            where events come from, how clients speak, who keeps the log
    streams/                                the log: Stream, Cursor, LogStore
    request, sse                            what was asked, how SSE is framed
    events, errors, settings, telemetry/    words that everybody uses
"""

__version__ = "0.1.0"
