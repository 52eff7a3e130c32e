"""Who calls: an API key names its tenant and the groups whose documents it may read."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.problems import Problem
from schemas.ids import InvalidId, Tenant, parse_tenant

_logger = logging.getLogger(__name__)
_bearer = HTTPBearer(auto_error=False, description="An API key of the keys file; it belongs to one tenant.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The tenant that a request acts for, and the ACL groups that it may read.

    `operator`: it may look after the whole installation: dead letters of all tenants, verification.
    """

    tenant: Tenant
    groups: tuple[str, ...] = ()
    operator: bool = False


class BadKeysFile(ValueError):
    """The file of API keys cannot be used; the message says why."""


class ApiKeys:
    """The keys file, read again when it changes; a broken change leaves the keys as they were.

    Keys are looked up by their SHA-256, so the time of a look-up tells nothing about a key.
    """

    def __init__(self, file: Path) -> None:
        """Args:
        file: JSON, `{"<key>": {"tenant": "<name>", "groups": ["<acl group>", ...], "operator": false}, ...}`; `groups`
            and `operator` may be left out.

        Raises:
            BadKeysFile: it is missing or not of that shape.
        """
        self._file = file
        self._stamp = self._stamp_of_file()
        self._callers = _read(file)

    def find(self, key: str) -> Caller | None:
        """Return who holds this key; None: nobody."""
        stamp = self._stamp_of_file()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._callers = _read(self._file)
            except BadKeysFile as error:
                _logger.error("the keys file has changed and cannot be used, so the keys stay as they were: %s", error)
        return self._callers.get(hashlib.sha256(key.encode()).digest())

    def _stamp_of_file(self) -> tuple[int, int, int] | None:
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str
    groups: list[str] = []
    operator: bool = False


def _read(file: Path) -> dict[bytes, Caller]:
    try:
        entries = msgspec.json.decode(file.read_bytes(), type=dict[str, _Entry])
        return {
            hashlib.sha256(key.encode()).digest(): Caller(
                tenant=parse_tenant(entry.tenant), groups=tuple(entry.groups), operator=entry.operator
            )
            for key, entry in entries.items()
            if key
        }
    except OSError as error:
        raise BadKeysFile(
            f"{str(file)!r} cannot be read ({error.strerror}); HEADRACE_API_KEYS_FILE names it"
        ) from error
    except (msgspec.MsgspecError, UnicodeError, InvalidId) as error:
        expected = '{"<key>": {"tenant": "<name>", "groups": []}}'
        raise BadKeysFile(f"{str(file)!r}: {error}; expected JSON like {expected}") from error


async def authenticated(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """Return the caller of a request.

    Raises:
        Problem: 401, no key or an unknown one.
    """
    keys: ApiKeys = request.app.state.services.keys
    if credentials is None:
        raise _unauthorized("send the header 'Authorization: Bearer <API key>'")
    caller = keys.find(credentials.credentials)
    if caller is None:
        raise _unauthorized("the API key is not known; check it against the keys file of the gateway")
    return caller


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


Authenticated = Annotated[Caller, Depends(authenticated)]


async def operating(caller: Authenticated) -> Caller:
    """Return the caller of a request that only an operator may send.

    Raises:
        Problem: 401 as `authenticated`; 403, the key is no operator's.
    """
    if not caller.operator:
        raise Problem(403, "not_operator", 'this needs a key that the keys file marks with "operator": true')
    return caller


Operator = Annotated[Caller, Depends(operating)]
