"""Where the gateways are, and which key opens them: from arguments, the environment, else the embedded stack's home."""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.local.home import Home, find_home

LOCAL_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Addresses of gateways of one stack without a trailing slash, and a key (None: requests go without one)."""

    urls: tuple[str, ...]
    api_key: str | None

    @property
    def url(self) -> str:
        """The first address."""
        return self.urls[0]


def find_target(url: str | None = None, api_key: str | None = None) -> Target:
    """Find the gateways: the arguments, else `HEADRACE_URL` and `HEADRACE_API_KEY`, else the embedded stack.

    Args:
        url: one address, or several with commas between them.
        api_key: one key for all of them. A key of the embedded stack is sent to the embedded stack alone.
    """
    home = find_home()
    local_url = _local_url(home)
    named = url or os.environ.get("HEADRACE_URL") or local_url
    urls = tuple(each.strip().rstrip("/") for each in named.split(",") if each.strip()) or (local_url,)
    key = api_key or os.environ.get("HEADRACE_API_KEY")
    if key is None and urls == (local_url,):
        key = _first_key(home)
    return Target(urls=urls, api_key=key)


def _local_url(home: Home) -> str:
    port = _read(home.ports).get("ports", {}).get("gateway")
    return f"http://127.0.0.1:{port}" if port else LOCAL_URL


def _first_key(home: Home) -> str | None:
    return next(iter(_read(home.api_keys)), None)


def _read(path: Path) -> dict[str, dict[str, object]]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return found if isinstance(found, dict) else {}
