"""Builds the chain of links over OpenAI-compatible endpoints, as the settings of a worker say."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from pydantic import SecretStr

from backbone.settings import LanguageModelSettings
from streams.adapters.openai_model import OpenaiModel, client
from streams.adapters.prometheus_chain import PrometheusChain, show_breaker
from streams.breaker import Breaker
from streams.errors import Fatal
from streams.generate.chain import Chain, Link
from streams.generate.extractive import Extractive
from streams.generate.prompt import Prompt

PROMPT: Final = "answer@1"
SMALL_CONTEXT: Final = 512
"""Tokens of passages where `feature_context_limit` is small."""


def open_chain(settings: LanguageModelSettings, resources: AsyncExitStack) -> Chain:
    """Make the chain: the model, the same with a quarter of the context, the backup model if one is set, extractive.

    Args:
        settings: `llm_base_url` is set.
        resources: closes the clients.

    Raises:
        Fatal: a setting is missing or is none of those that it may be.
    """
    if settings.feature_context_limit not in ("", "small"):
        raise Fatal(
            f"HEADRACE_FEATURE_CONTEXT_LIMIT is {settings.feature_context_limit!r}; it may be small, or empty for "
            "prompts as large as HEADRACE_LLM_CONTEXT_TOKENS says"
        )
    tokens = settings.llm_context_tokens
    if settings.feature_context_limit == "small":
        tokens = min(tokens, SMALL_CONTEXT)

    def endpoint(prefix: str, base_url: str, name: str, key: SecretStr) -> OpenaiModel:
        if not base_url.startswith(("http://", "https://")) or not name:
            raise Fatal(
                f"{prefix}_BASE_URL is {base_url!r} and {prefix}_MODEL is {name!r}; expected an address as "
                "https://host/v1 and the name of a model there. Set both, or neither for extractive answers"
            )
        opened = client(base_url, key.get_secret_value())
        resources.push_async_callback(opened.close)
        return OpenaiModel(
            client=opened,
            name=name,
            max_tokens=settings.llm_max_tokens,
            token_s=settings.llm_token_timeout_ms / 1000,
        )

    model = endpoint("HEADRACE_LLM", settings.llm_base_url, settings.llm_model, settings.llm_api_key)
    breaker = Breaker(on_state=partial(show_breaker, "openai"))
    links = [
        Link(name="openai", model=model, breaker=breaker, context_tokens=tokens),
        Link(name="openai-small", model=model, breaker=breaker, context_tokens=tokens // 4),
    ]
    if settings.llm_backup_base_url:
        backup = endpoint(
            "HEADRACE_LLM_BACKUP", settings.llm_backup_base_url, settings.llm_backup_model, settings.llm_backup_api_key
        )
        backup_breaker = Breaker(on_state=partial(show_breaker, "openai-backup"))
        links.append(Link(name="openai-backup", model=backup, breaker=backup_breaker, context_tokens=tokens))
    return Chain(
        links=links,
        extractive=Extractive(),
        prompt=Prompt.load(PROMPT),
        observer=PrometheusChain(),
        first_token_s=settings.llm_first_token_timeout_ms / 1000,
    )
