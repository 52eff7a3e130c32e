"""`Idempotency-Key`: a POST that is sent again creates nothing new, and is answered as the first time."""

import hashlib
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header
from pydantic import BaseModel

from gateway.auth import Caller
from gateway.ports import Services
from gateway.problems import Problem, invalid
from schemas.ids import new_document_id

_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,255}")
_NAMESPACE: Final = uuid.UUID("6c7f4b1e-2f0a-5c56-9d1e-8a4b7c3d2e10")

M = TypeVar("M", bound=BaseModel)
IdOf = Callable[[int], str]
"""Gives the id of the nth thing that a request creates."""


async def key_in_header(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 printable ASCII characters; for a day, the same request with the same key creates "
            "nothing new",
            examples=["order-17/retry"],
        ),
    ] = None,
) -> str | None:
    """Return the key of a request; None where it has none.

    Raises:
        Problem: 422, it is malformed.
    """
    if key is not None and not _PRINTABLE.fullmatch(key):
        raise invalid("header parameter Idempotency-Key", "expected 1 to 255 printable ASCII characters", key)
    return key


IdempotencyKey = Annotated[str | None, Depends(key_in_header)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """Ids of what a request creates: the same ones whenever the request comes again with its key."""

    tenant: str
    key: str
    first_us: int

    def __call__(self, ordinal: int) -> str:
        """Return the id of the nth thing: a UUIDv5 of tenant, key, the key's first use, and n.

        Once a key is forgotten, whoever uses it again means something new.
        """
        return str(uuid.uuid5(_NAMESPACE, f"{self.tenant}/{self.first_us}/{ordinal}/{self.key}"))


async def ids_of(services: Services, caller: Caller, key: str, route: str, body: Any) -> Ids:
    """Remember a key, and return the ids of what its request creates.

    Args:
        services: of the gateway.
        caller: whose key it is; other tenants' keys are others.
        key: as in the header.
        route: as `POST /v1/ingest`.
        body: JSON values that say what is asked for; with another body the key is refused.

    Raises:
        Problem: 422, the key was used for another request; 503, Postgres is away.
    """
    # What the caller may read is part of what is asked for.
    asked = json.dumps([route, sorted(caller.groups), body], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(asked.encode()).digest()
    row = await services.idempotency.remember(caller.tenant, key, route=route, body_sha256=digest)
    if row.body_sha256 != digest:
        detail = (
            f"the Idempotency-Key {key!r} was used for another {row.route}; send the same request again, "
            "or a new key for a new one"
        )
        raise Problem(422, "idempotency_key_reused", detail)
    return Ids(tenant=caller.tenant, key=key, first_us=row.first_us)


def _fresh(_: int) -> str:
    return new_document_id()


async def once(
    services: Services,
    caller: Caller,
    key: str | None,
    route: str,
    body: Any,
    model: type[M],
    create: Callable[[IdOf], Awaitable[M]],
) -> M:
    """Answer a request that creates things; sent again with its key it gets the stored response, and creates nothing.

    Args:
        services: of the gateway.
        caller: see `ids_of`.
        key: None: every request is a new one.
        route: see `ids_of`.
        body: see `ids_of`.
        model: of the response.
        create: makes it, given the id of the nth thing. Where it raises, the request may be repeated: the ids are the
            same.

    Raises:
        Problem: as `ids_of`.
    """
    if key is None:
        return await create(_fresh)
    ids = await ids_of(services, caller, key, route, body)
    async with services.idempotency.holding(caller.tenant, key) as held:
        if held.response is None:
            response = await create(ids)
            await held.keep(response.model_dump(mode="json"))
            return response
    return model.model_validate(held.response)
