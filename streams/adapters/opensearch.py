"""Connects to OpenSearch, and says what the runtime does about its failures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from opensearchpy import AsyncOpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError

from backbone.settings import OpensearchSettings
from streams.errors import Fatal, StreamError, Transient, Unprocessable
from streams.index_opensearch.handler import OPENSEARCH

REQUEST_TIMEOUT_S: Final = 30.0
CHECK_TIMEOUT_S: Final = 2.0
_BUSY: Final = (408, 429)
_FORBIDDEN: Final = (401, 403)


def open_client(settings: OpensearchSettings) -> AsyncOpenSearch:
    """Return a client, which connects at its first request; its owner closes it.

    Raises:
        Fatal: there is no address.
    """
    if not settings.opensearch_url:
        raise Fatal("HEADRACE_OPENSEARCH_URL is empty; set it to the address of OpenSearch, as https://host:9200")
    # the runtime says what failed, once
    logging.getLogger("opensearch").setLevel(logging.ERROR)
    user, password = settings.opensearch_user, settings.opensearch_password.get_secret_value()
    return AsyncOpenSearch(
        hosts=[url.strip() for url in settings.opensearch_url.split(",")],
        http_auth=(user, password) if user else None,
        ca_certs=str(settings.opensearch_ca_file) if settings.opensearch_ca_file else None,
        timeout=REQUEST_TIMEOUT_S,
        # the runtime tries again, and says so
        max_retries=0,
    )


async def check(client: AsyncOpenSearch) -> None:
    """Ask whether it takes requests.

    Raises:
        StreamError: it does not.
    """
    with asking():
        await client.cluster.health(params={"request_timeout": CHECK_TIMEOUT_S})


@contextmanager
def asking() -> Iterator[None]:
    """Translate what a request inside the block raises.

    Raises:
        Transient: it is away, busy or full, or lacks the index.
        Fatal: it does not let us in.
        Unprocessable: it refuses what was sent.
    """
    try:
        yield
    except TransportError as error:
        raise _translated(error) from error
    except OpenSearchException as error:
        raise Transient(f"OpenSearch gave no answer that can be read: {error}", part=OPENSEARCH) from error


def refused(status: int, error: Any) -> StreamError:
    """Make the failure of an answer from its HTTP status and its JSON error."""
    kind, why = (error.get("type"), error.get("reason")) if isinstance(error, dict) else (None, error)
    cause = (error.get("caused_by") or {}).get("reason") if isinstance(error, dict) else None
    what = ": ".join(str(each) for each in (kind, why, cause) if each)
    if status in _FORBIDDEN and kind != "cluster_block_exception":
        return Fatal(f"OpenSearch does not let us in ({status}, {what}); check HEADRACE_OPENSEARCH_USER and _PASSWORD")
    if kind == "index_not_found_exception":
        return Transient(f"OpenSearch lacks the index of the generation ({what}); headrace rebuild makes it again")
    if status in _BUSY or status >= 500 or kind == "cluster_block_exception":
        return Transient(f"OpenSearch is busy or full ({status}, {what})", part=OPENSEARCH)
    return Unprocessable("opensearch_refused", f"OpenSearch refuses what was sent ({status}, {what})")


def _translated(error: TransportError) -> StreamError:
    if not isinstance(error.status_code, int):
        return Transient(f"OpenSearch is away: {error.error}", part=OPENSEARCH)
    told = error.info.get("error") if isinstance(error.info, dict) else None
    return refused(error.status_code, told or error.error)
