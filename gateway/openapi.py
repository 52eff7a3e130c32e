"""Writes docs/openapi.json, the HTTP API as committed: `python -m gateway.openapi`."""

import json
from pathlib import Path
from typing import Final

from backbone.settings import GatewaySettings
from gateway.app import create_app

FILE: Final = Path(__file__).parent.parent / "docs/openapi.json"


def document() -> str:
    """Return the OpenAPI document as it is committed."""
    return json.dumps(create_app(GatewaySettings()).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(document())
