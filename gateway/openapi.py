"""The OpenAPI document of the HTTP API."""

import json

from backbone.settings import GatewaySettings
from gateway.app import create_app


def document() -> str:
    """Return it as it is committed in docs/openapi.json."""
    return json.dumps(create_app(GatewaySettings()).openapi(), indent=2, ensure_ascii=False) + "\n"
