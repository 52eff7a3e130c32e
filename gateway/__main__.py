"""Runs the gateway: `python -m gateway`. Settings come from the environment; .env.example lists them."""

import resource
import sys
from contextlib import suppress

import uvicorn

from backbone.settings import GatewaySettings
from backbone.telemetry import end_within, setup_logging
from gateway.app import create_app
from gateway.auth import ApiKeys, BadKeysFile
from gateway.server import GRACE_S, Server

EXIT_LATE = 74
KEEP_ALIVE_S = 75
"""A connection between two requests is kept so long: longer than callers and load balancers keep theirs (60 s), so that
it is they who close it, and no request meets a connection that is being closed."""
_SWITCH_INTERVAL_S = 0.0005
_OTHER_FILES = 1024
"""Connections that are no streams, and files."""


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
    _allow_open_files(settings.streams_max + _OTHER_FILES)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = Server(
        app, config, notice_s=settings.stop_notice_ms / 1000, on_told=lambda within_s: end_within(within_s, EXIT_LATE)
    )
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(3)


def _allow_open_files(n: int) -> None:
    """Raise the limit of this process as far as the system lets it; many systems begin with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n if hard == resource.RLIM_INFINITY else min(n, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
