"""OpenAISource: any service that speaks OpenAI's Chat Completions, streamed.

Source of what is sent: the OpenAI API reference, "chat" and "authentication". For continuations: vLLM,
"OpenAI-Compatible Server", extra parameters of the Chat API (`continue_final_message`, which SGLang and llama.cpp hear
too); DeepSeek, "Chat Prefix Completion (Beta)", under the base URL `…/beta`; Mistral, API reference,
`AssistantMessage.prefix`. LMDeploy and llama.cpp go on behind a trailing assistant message without being told to.
"""

from collections.abc import Collection
from typing import Any, Literal

import orjson

from gateway import __version__
from gateway.errors import Code, GatewayError
from gateway.request import StreamRequest
from gateway.sources.base import Outlet
from gateway.sources.openai_answer import Answer, refusal
from gateway.transport.pool import Pool
from gateway.transport.route import Route
from gateway.turn import Turn

DEFAULT_BASE_URL = "https://api.openai.com/v1"

ContinueStyle = Literal["plain", "vllm", "prefix"]
"""How a service is told that the last message is to be gone on with: it is not (`plain`), by vLLM's two parameters,
or by DeepSeek's and Mistral's mark on the message."""

_VLLM = {"continue_final_message": True, "add_generation_prompt": False}
_GRAMMARS = frozenset(
    (
        "response_format",
        "structured_outputs",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "grammar",
    )
)
"""Parameters that hold an answer to a grammar, which a service would begin again in the middle of the answer."""


class OpenAISource:
    """Streams from the service at the end of `route`. Not `exact`: asked again, a model says something else.

    Times are in seconds. `max_event_bytes` bounds one SSE event of the upstream. An answer of one of `continue_models`
    can go on behind a text.
    """

    name = "openai"
    exact = False

    def __init__(
        self,
        route: Route,
        turn: Turn,
        *,
        api_key: str,
        connect_s: float,
        models_s: float,
        max_connections: int,
        keepalive_s: float,
        max_event_bytes: int,
        continue_models: Collection[str] = (),
        continue_style: ContinueStyle = "plain",
    ) -> None:
        self._continue_models = frozenset(continue_models)
        self._continue_style = continue_style
        self._max_event_bytes = max_event_bytes
        self._models_s = models_s
        self._pool = Pool(route, turn, connect_s=connect_s, max_connections=max_connections, keepalive_s=keepalive_s)
        # An encoding is not wanted: tokens are small, and what is unpacked could not be bounded.
        common = (
            b" HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\nAccept-Encoding: identity\r\n"
            b"User-Agent: sse-gateway/%b\r\n" % (route.authority, api_key.encode(), __version__.encode())
        )
        if route.proxy is not None and route.tls is None and route.proxy.credentials:
            common += b"Proxy-Authorization: %b\r\n" % route.proxy.credentials
        self._question = (
            b"POST "
            + route.target("/chat/completions")
            + common
            + b"Accept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: "
        )
        self._list = b"GET " + route.target("/models") + common + b"Accept: application/json\r\n\r\n"

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """One batch per read of the socket that brought events."""
        if skip:
            raise ValueError("only an exact source can say again what it said before")
        answer = Answer(outlet, self._max_event_bytes)
        connection = await self._pool.ask(self._asked(request), answer)
        try:
            await answer.over
        finally:
            connection.leave(answer, at_end=answer.let_end)
            # An error holds this frame; if the frame went on to hold the error's future, they would be a cycle.
            del answer

    def _asked(self, request: StreamRequest) -> bytes:
        """The whole HTTP request. In no variable of `pour`, which lasts as long as the answer."""
        body = orjson.dumps(self._body(request))
        return b"%b%d\r\n\r\n%b" % (self._question, len(body), body)

    def _body(self, request: StreamRequest) -> dict[str, Any]:
        """What goes upstream: the question, the caller's own parameters, and always a request for usage."""
        body = {**request.parameters, "model": request.model, "messages": request.messages, "stream": True}
        body["stream_options"] = {**(request.parameters.get("stream_options") or {}), "include_usage": True}
        if request.max_tokens is not None and "max_completion_tokens" not in body:
            body["max_tokens"] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.is_continuation and self._continue_style == "vllm":
            body |= _VLLM
        elif request.is_continuation and self._continue_style == "prefix":
            body["messages"] = (*request.messages[:-1], {**request.messages[-1], "prefix": True})
        return body

    def continues(self, request: StreamRequest) -> bool:
        """Whether the model is one of those that do, and nothing in the request would be begun again by it."""
        return request.model in self._continue_models and not any(map(request.parameters.get, _GRAMMARS))

    async def models(self) -> list[str]:
        """The names of the models that the upstream offers."""
        status, headers, body = await self._pool.fetch(self._list, self._models_s)
        if status >= 300:
            raise refusal(status, headers)
        try:
            return [_id_of(model) for model in orjson.loads(body)["data"]]
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
        self._pool.close()


def _id_of(model: dict[str, Any]) -> str:
    if not isinstance(model["id"], str):
        raise TypeError("not a name")
    return model["id"]
