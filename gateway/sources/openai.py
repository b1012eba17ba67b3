"""OpenAISource: any service that speaks OpenAI's Chat Completions, streamed.

The official SDK builds the request, authenticates, pools and maps connection errors; the body of the answer
is read raw, by our own parser, because a model object per token costs more than all the rest of the gateway.
"""

import asyncio
import email.utils
import logging
import ssl
import time
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import httpx2
import openai
import orjson

from gateway.errors import Code, GatewayError
from gateway.events import Event
from gateway.request import StreamRequest
from gateway.sources.base import Batch
from gateway.sources.openai_chunks import ChunkReader
from gateway.sse import Parser

log = logging.getLogger(__name__)

ERROR_BODY_MAX_BYTES = 16 * 1024
"""As much of an upstream's error page as is worth reading."""

TRAILER_S = 0.25
"""How long to wait for the end of the body behind [DONE], so that its connection can be used again."""

RETRY_AFTER_MAX_S = 3600.0
"""An upstream's Retry-After is passed on up to an hour; beyond that it is not advice but a mistake."""


class OpenAISource:
    """Streams from `base_url`. Not `exact`: asked again, a model says something else.

    Times are in seconds. `max_event_bytes` bounds one SSE event of the upstream.
    """

    name = "openai"
    exact = False

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None,
        connect_s: float,
        read_s: float,
        max_connections: int,
        keepalive_s: float,
        max_event_bytes: int,
    ) -> None:
        self._max_event_bytes = max_event_bytes
        timeout = httpx2.Timeout(connect=connect_s, read=read_s, write=connect_s, pool=connect_s)
        limits = httpx2.Limits(max_connections=max_connections, keepalive_expiry=keepalive_s)
        self._http = openai.DefaultAioHttpClient(
            timeout=timeout,
            limits=limits,
            follow_redirects=False,
            event_hooks={"response": [_refuse_unusable]},
        )
        self._client = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, max_retries=0, timeout=timeout, http_client=self._http
        )

    async def stream(self, request: StreamRequest, skip: int = 0) -> AsyncGenerator[Batch]:
        """One batch per read of the socket that brought events."""
        if skip:
            raise ValueError("only an exact source can leave out what it said before")
        parser, reader = Parser(self._max_event_bytes), ChunkReader()
        try:
            async with self._client.chat.completions.with_streaming_response.create(
                model=request.model,
                messages=list(request.messages),  # type: ignore[arg-type]  # validated by the upstream, not by us
                stream=True,
                extra_body=_body(request),
                extra_headers={"Accept": "text/event-stream", "Accept-Encoding": "identity"},
            ) as response:
                _require_event_stream(response.headers.get("content-type", ""))
                chunks = response.http_response.aiter_raw()
                async for chunk in chunks:
                    batch, trouble = _read(chunk, parser, reader)
                    try:
                        if batch:
                            yield batch
                    finally:
                        # Here and not behind: who reads us stops at the end of the text and closes us at the yield.
                        if reader.done:
                            await _read_to_end(chunks)
                    if trouble is not None:
                        raise trouble
                    if reader.done:
                        return
                raise GatewayError(Code.UPSTREAM_TRUNCATED)
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            raise translate(error) from error

    async def models(self) -> list[str]:
        """The names of the models that the upstream offers."""
        try:
            answer = await self._client.models.with_raw_response.list()
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            raise translate(error) from error
        try:
            return [_id_of(model) for model in orjson.loads(answer.content)["data"]]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream's list of models is not one") from error

    async def check(self) -> None:
        """Asks for the list of models; an upstream that has none (404) is still there."""
        try:
            await self.models()
        except GatewayError as error:
            if error.status != 404:
                raise

    async def close(self) -> None:
        """Close the pool."""
        await self._client.close()


def _id_of(model: dict[str, Any]) -> str:
    if not isinstance(model["id"], str):
        raise TypeError("not a name")
    return model["id"]


def _body(request: StreamRequest) -> dict[str, Any]:
    """What goes upstream beside model and messages: the caller's own parameters, and always a request for usage."""
    body = dict(request.parameters)
    body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    if request.max_tokens is not None and "max_completion_tokens" not in body:
        body["max_tokens"] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return body


def _read(chunk: bytes, parser: Parser, reader: ChunkReader) -> tuple[list[Event], GatewayError | None]:
    """The events that `chunk` brings up to the end or to the first fault, and that fault.

    What arrived before a fault is said before it, however the network cut the bytes.
    """
    batch: list[Event] = []
    try:
        for arrived in parser.events(chunk):
            batch += reader.read(arrived)
            if reader.done:
                break
    except GatewayError as error:
        return batch, error
    return batch, None


async def _read_to_end(chunks: Any) -> None:
    """Read what is behind [DONE], which is nothing but the end of the body when all is well."""
    try:
        async with asyncio.timeout(TRAILER_S):
            await anext(chunks, None)
    except (TimeoutError, httpx2.HTTPError, aiohttp.ClientError, OSError):
        pass  # The answer is whole; the connection is simply not used again.


def _require_event_stream(content_type: str) -> None:
    if content_type.partition(";")[0].strip().lower() != "text/event-stream":
        raise GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream did not answer with text/event-stream")


async def _refuse_unusable(response: httpx2.Response) -> None:
    """Called with the headers of every answer: what cannot be used ends here, before its body is read as a whole."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        await response.aclose()
        raise GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream sent an encoding that was not asked for")
    if response.status_code >= 300:
        body_bytes = await _read_error_page(response)
        await response.aclose()
        log.warning("upstream refused", extra={"status": response.status_code, "body_bytes": body_bytes})
        raise refusal(response.status_code, response.headers.get("retry-after"))


async def _read_error_page(response: httpx2.Response) -> int:
    """Read it, so that its connection can be used again; one that is long, slow or cut is left. Gives its bytes."""
    read = 0
    try:
        async with asyncio.timeout(TRAILER_S):
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read >= ERROR_BODY_MAX_BYTES:
                    break
    except (TimeoutError, httpx2.HTTPError, aiohttp.ClientError, OSError):
        pass  # The status has said what matters.
    return read


def refusal(status: int, retry_after: str | None) -> GatewayError:
    """The error for an upstream's status of 300 or more, which is passed on where it is one of HTTP's errors."""
    delay = retry_after_s(retry_after)
    if status in (401, 403):
        return GatewayError(Code.UPSTREAM_AUTH, status=status)
    if status == 429:
        return GatewayError(Code.UPSTREAM_RATE_LIMITED, status=status, retry_after_s=delay)
    if 400 <= status < 500:
        return GatewayError(Code.UPSTREAM_REJECTED, f"the upstream refused the request ({status})", status=status)
    if 500 <= status < 600:
        return GatewayError(Code.UPSTREAM_ERROR, f"the upstream failed ({status})", status=status, retry_after_s=delay)
    return GatewayError(Code.UPSTREAM_PROTOCOL, f"the upstream answered {status}, which is no answer to a question")


def retry_after_s(value: str | None) -> float | None:
    """Seconds from a Retry-After of either form (RFC 9110, 10.2.3), 0 to an hour; None when it says nothing."""
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        when_s = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, when_s - time.time()), RETRY_AFTER_MAX_S)


def translate(error: BaseException) -> GatewayError:
    """Our error for one of the SDK, the HTTP client or the socket, judged by what first went wrong."""
    causes = _causes(error)
    for cause in causes:
        if isinstance(cause, GatewayError):
            return cause
        if isinstance(cause, (ssl.SSLError, aiohttp.ClientSSLError, ssl.CertificateError)):
            return GatewayError(Code.UPSTREAM_TLS)
    for cause in causes:
        if isinstance(cause, aiohttp.ConnectionTimeoutError):
            return GatewayError(Code.UPSTREAM_TIMEOUT, "the upstream did not accept a connection in time")
        if isinstance(cause, aiohttp.ServerTimeoutError):
            return GatewayError(Code.UPSTREAM_TIMEOUT, "the upstream did not go on in time")
        if isinstance(cause, aiohttp.ClientPayloadError):
            return GatewayError(Code.UPSTREAM_TRUNCATED, "the upstream's connection was cut in mid-answer")
        if isinstance(cause, (aiohttp.ClientResponseError, aiohttp.http.HttpProcessingError)):
            return GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream's answer is not well-formed HTTP")
        if isinstance(cause, aiohttp.ClientConnectionError):
            # Before what is wrapped around it: the SDK calls every lost or refused connection a timeout.
            return GatewayError(Code.UPSTREAM_UNAVAILABLE)
    if any(isinstance(cause, (openai.APITimeoutError, TimeoutError)) for cause in causes):
        return GatewayError(Code.UPSTREAM_TIMEOUT, "the upstream did not go on in time")
    return GatewayError(Code.UPSTREAM_UNAVAILABLE)


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on down."""
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in causes:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes
