"""Catalog: which pipeline serves a request."""

import time
from collections.abc import Callable
from typing import Protocol

from gateway.errors import Code, GatewayError
from gateway.pipeline import Pipeline
from gateway.request import StreamRequest
from gateway.sources.base import Source

MODELS_KEPT_S = 60.0
"""How long an upstream's list of models is believed."""


class Offer(Protocol):
    """Something that can name the models that it serves."""

    async def models(self) -> list[str]:
        """Their names."""


class Catalog:
    """One source and the models that may be asked of it.

    `models` empty means that every name is passed on, and that the upstream decides which it knows.
    """

    def __init__(
        self,
        source: Source,
        offer: Offer,
        make: Callable[[Source, StreamRequest], Pipeline],
        *,
        models: list[str],
        default_model: str,
    ) -> None:
        self._source = source
        self._offer = offer
        self._make = make
        self._models = models
        self.default_model = default_model
        self._offered: list[str] = []
        self._offered_until = 0.0

    def pipeline_for(self, request: StreamRequest) -> Pipeline:
        """A fresh pipeline. Raises `UNKNOWN_MODEL`."""
        if self._models and request.model not in self._models:
            raise GatewayError(Code.UNKNOWN_MODEL, param="model", allowed=self._models)
        return self._make(self._source, request)

    async def models(self) -> list[str]:
        """Names to offer to clients, the default first."""
        if self._models:
            return [self.default_model, *(name for name in self._models if name != self.default_model)]
        if time.monotonic() >= self._offered_until:
            self._offered = await self._offer.models()
            self._offered_until = time.monotonic() + MODELS_KEPT_S
        return [self.default_model, *(name for name in self._offered if name != self.default_model)]

    async def check(self) -> None:
        """Raises a `GatewayError` when the source cannot serve at all."""
        await self._source.check()

    async def close(self) -> None:
        """Let go of connections."""
        await self._source.close()
