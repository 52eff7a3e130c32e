"""Whether OpenSearch answers, which only workers search: for who asks the gateway whether all is well."""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from backbone.settings import OpensearchSettings


def opensearch_check(settings: OpensearchSettings, resources: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """Return what raises while the first of its nodes does not answer.

    Args:
        settings: with an address.
        resources: closes the connection.
    """
    user, password = settings.opensearch_user, settings.opensearch_password.get_secret_value()
    url = settings.opensearch_url.split(",")[0].strip()
    client = httpx.AsyncClient(
        base_url=url,
        auth=(user, password) if user else None,
        verify=_verify(settings.opensearch_ca_file) if url.startswith("https:") else False,
        trust_env=False,
    )
    resources.push_async_callback(client.aclose)

    async def check() -> None:
        (await client.get("/_cluster/health")).raise_for_status()

    return check


def _verify(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
