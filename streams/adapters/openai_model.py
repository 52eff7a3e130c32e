"""Models behind an OpenAI-compatible endpoint: OpenAI, vLLM, Ollama, llama.cpp and others."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import openai
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from schemas.events import Usage
from streams.generate.model import Message, ModelFailed, Reason, estimated_tokens

CONNECT_S: Final = 2.0

_DENIED: Final = frozenset({401, 403, 404})
_UNREADABLE: Final = frozenset({"\0", *(chr(code) for code in range(0xD800, 0xE000))})


def client(base_url: str, api_key: str) -> AsyncOpenAI:
    """Make the client of one endpoint; the caller closes it.

    The SDK never asks again by itself: the chain knows better where to turn.

    Args:
        base_url: as `https://host/v1`.
        api_key: empty where the endpoint wants none.
    """
    # the times between tokens are ours to watch: a transport knows only times between bytes
    timeout = openai.Timeout(None, connect=CONNECT_S)
    return AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0, timeout=timeout)


@dataclass(kw_only=True)
class OpenaiModel:
    """`Model` by the vendor's own SDK. What an endpoint does not count is estimated, and `Usage` says so.

    Attributes:
        client: of the endpoint.
        name: of the model there.
        max_tokens: of an answer.
        token_s: longest wait between two pieces.
    """

    client: AsyncOpenAI
    name: str
    max_tokens: int
    token_s: float
    _options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._options = {"temperature": 0, "max_tokens": self.max_tokens, "stream_options": {"include_usage": True}}

    async def __call__(self, messages: Sequence[Message], *, first_token_s: float) -> AsyncGenerator[str | Usage, None]:
        """See `Model`."""
        now = asyncio.get_running_loop().time
        until, told, finish, usage = now() + first_token_s, "", None, None
        stream = await self._open(messages, until)
        try:
            while True:
                try:
                    chunk = await _next(stream, until)
                except ModelFailed:
                    if finish is None:
                        raise
                    break  # only what comes after the text is missing
                if chunk is None:
                    break
                usage = self._counted(chunk) or usage
                piece, ended = _read(chunk)
                finish = ended or finish
                if piece:
                    told += piece
                    yield piece
                if told:
                    until = now() + self.token_s
        finally:
            await stream.close()
        if finish is None:
            raise ModelFailed("cut", "the stream ended before the answer did")
        if finish == "content_filter":
            raise ModelFailed("refused", "the endpoint's filter stopped the answer")
        yield usage or self._estimated(messages, told)

    async def _open(self, messages: Sequence[Message], until: float) -> "AsyncStream[ChatCompletionChunk]":
        sent: Any = [{"role": message.role, "content": message.text} for message in messages]
        again = True
        while True:
            try:
                async with asyncio.timeout_at(until):
                    stream: AsyncStream[ChatCompletionChunk] = await self.client.chat.completions.create(
                        model=self.name, messages=sent, stream=True, **self._options
                    )
                    return stream
            except openai.APIStatusError as error:
                if not self._do_without(error):
                    raise _failed(error) from error
            except (openai.OpenAIError, TimeoutError, ValueError) as error:
                # a kept connection that the endpoint closes just now says nothing about the endpoint
                lost = isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)
                if not (lost and again):
                    raise _failed(error) from error
                again = False

    def _do_without(self, error: openai.APIStatusError) -> bool:
        """Leave out, from now on, an option that the endpoint does not know; say whether there was one."""
        said = error.message
        if error.status_code not in (400, 422):
            return False
        if "max_tokens" in self._options and "use 'max_completion_tokens'" in said.lower():
            self._options["max_completion_tokens"] = self._options.pop("max_tokens")
            return True
        refused = next(
            (name for name in ("stream_options", "temperature") if name in self._options and name in said), ""
        )
        return self._options.pop(refused, None) is not None

    def _counted(self, chunk: ChatCompletionChunk) -> Usage | None:
        with contextlib.suppress(AttributeError, TypeError, ValueError, OverflowError):
            if chunk.usage is not None:
                asked, told = int(chunk.usage.prompt_tokens), int(chunk.usage.completion_tokens)
                return Usage(prompt_tokens=asked, completion_tokens=told, model=self.name)
        return None

    def _estimated(self, messages: Sequence[Message], told: str) -> Usage:
        asked = sum(estimated_tokens(message.text) for message in messages)
        return Usage(prompt_tokens=asked, completion_tokens=estimated_tokens(told), model=self.name, estimated=True)


async def _next(stream: "AsyncStream[ChatCompletionChunk]", until: float) -> ChatCompletionChunk | None:
    """Return the next chunk, None at the end of the stream."""
    try:
        async with asyncio.timeout_at(until):
            return await anext(stream)
    except StopAsyncIteration:
        return None
    except openai.APIConnectionError as error:
        raise ModelFailed("cut", f"the connection was lost: {error}") from error
    except Exception as error:  # the SDK trips over garbage in many ways
        raise _failed(error) from error


def _read(chunk: ChatCompletionChunk) -> tuple[str, str | None]:
    """Return the text of a chunk and why the answer ended, if it did. The SDK does not check what it reads."""
    try:
        if not chunk.choices:
            return "", None
        choice = chunk.choices[0]
        piece, ended = choice.delta.content or "", choice.finish_reason
    except (AttributeError, TypeError, LookupError) as error:
        raise ModelFailed("garbage", "a chunk on the stream is not one of a chat completion") from error
    if not isinstance(piece, str) or not _UNREADABLE.isdisjoint(piece):
        raise ModelFailed("garbage", "the text holds what no text may: NUL, a lone surrogate, or no text at all")
    return piece, ended


def _failed(error: Exception) -> ModelFailed:
    reason: Reason
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        reason = "rate_limited" if status == 429 else "server_error" if status >= 500 or status == 408 else "refused"
        return ModelFailed("denied" if status in _DENIED else reason, f"the endpoint answered {status}")
    if isinstance(error, TimeoutError):
        return ModelFailed("timeout", "no token came in time")
    if isinstance(error, openai.APIConnectionError):
        return ModelFailed("unreachable", "no connection to the endpoint")
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIResponseValidationError):
        return ModelFailed("server_error", "the endpoint sent an error on the stream")
    return ModelFailed("garbage", "what the endpoint sent is no stream of a chat completion")
