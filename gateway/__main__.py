"""Runs the gateway: `python -m gateway`. Settings come from the environment; .env.example lists them."""

import sys
from contextlib import suppress

import uvicorn

from backbone.settings import GatewaySettings
from backbone.telemetry import setup_logging
from gateway.app import create_app
from gateway.auth import ApiKeys, BadKeysFile
from gateway.server import Server

_SWITCH_INTERVAL_S = 0.0005


def main() -> None:
    """Serve until stopped."""
    # Kafka's threads hand over every record; with CPython's 5 ms they and the event loop wait for each other
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    settings = GatewaySettings()
    setup_logging("gateway")
    try:
        ApiKeys(settings.api_keys_file)
    except BadKeysFile as error:
        sys.exit(f"the gateway cannot start: API keys: {error}")
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )
    server = Server(app, config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(3)


if __name__ == "__main__":
    main()
