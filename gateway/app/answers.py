"""Where answers come from: the catalog of sources and the pipelines around them."""

import logging
from pathlib import Path

from gateway.catalog import Catalog
from gateway.pipeline import Pipeline
from gateway.request import Caps, StreamRequest
from gateway.resilience.continuation import Continuation
from gateway.resilience.deadline import Deadline
from gateway.resilience.remembering import Brief, Remembering
from gateway.settings import Output, Settings, SettingsError
from gateway.sources.base import Source
from gateway.sources.local import LocalSource
from gateway.sources.openai import DEFAULT_BASE_URL, OpenAISource
from gateway.sources.passages import Library
from gateway.stages.base import Stage
from gateway.stages.liked import caps_for, stages_for
from gateway.stages.truncate import Truncate
from gateway.telemetry.metrics import Metrics
from gateway.transport.route import Route, route_to
from gateway.turn import Turn

log = logging.getLogger(__name__)

HOME = Path(__file__).parent.parent.parent


def make_catalog(settings: Settings, turn: Turn, remembering: Remembering, metrics: Metrics) -> Catalog:
    """The source that is configured, with its timers, and a pipeline for each request."""
    caps = caps_by(settings.output)

    def make_pipeline(source: Source, request: StreamRequest) -> Pipeline:
        most, bounds, liked = settings.stream.max_output_bytes, request.caps or caps, request.preferences
        if liked is not None:
            bounds = caps_for(liked, bounds)
        stages: list[Stage] = [Truncate(bounds, max_bytes=most, asked_tokens=request.asked_tokens)]
        brief: Brief | None = None
        if liked is not None:
            stages += stages_for(liked)
        if request.session_id is not None or request.preferences is not None:
            brief = remembering.brief_for(source, request)
        return Pipeline(source, stages, brief=brief, follower_limit_s=settings.stream.follower_s, metrics=metrics)

    chosen = settings.openai
    offer: LocalSource | OpenAISource
    if chosen.configured:
        offer = OpenAISource(
            upstream_route(settings),
            turn,
            api_key=chosen.api_key.get_secret_value() or "none",
            connect_s=chosen.connect_s,
            models_s=chosen.connect_s,
            max_connections=chosen.max_connections,
            keepalive_s=chosen.keepalive_s,
            max_event_bytes=chosen.max_event_bytes,
            continue_models=chosen.continue_models,
            continue_style=chosen.continue_style,
        )
        models, default = chosen.models, chosen.model
    else:
        local = settings.local
        library = Library.of_files(documents(local.documents))
        offer = LocalSource(library, first_token_s=local.first_token_ms / 1000, tokens_per_s=local.tokens_per_s)
        models, default = [offer.name], offer.name
    stream = settings.stream
    source: Source = Deadline(
        offer, first_token_s=stream.first_token_s, silence_s=stream.silence_s, total_s=stream.total_s
    )
    if chosen.configured and chosen.continue_models:
        source = Continuation(source, continue_max=chosen.continue_max, total_s=stream.total_s, metrics=metrics)
    return Catalog(source, offer, make_pipeline, models=models, default_model=default)


def upstream_route(settings: Settings) -> Route:
    """The route to the upstream. Raises `SettingsError` where its URL, or the proxy on the way, cannot be used."""
    try:
        return route_to(settings.openai.base_url or DEFAULT_BASE_URL)
    except ValueError as error:
        raise SettingsError(f"openai.base_url: {error}") from None


def documents(names: list[str], home: Path = HOME) -> list[Path]:
    """The Markdown files that these names stand for, folders read in order; relative names are the project's own."""
    paths: list[Path] = []
    for name in names:
        path = home / name
        if not path.exists():
            log.warning("local.documents: %s is not there", name)
        paths += sorted(path.glob("*.md")) if path.is_dir() else [path]
    return paths


def caps_by(output: Output) -> Caps:
    """How long an answer may become where its tenant does not say."""
    return Caps(output.max_words, output.max_tokens, output.max_bytes, output.max_s)
