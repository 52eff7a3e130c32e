"""`headrace init`, `gateway`, `worker` and `replay`: what a stack outside the embedded one is put together from."""

import asyncio
import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from headrace.cli.generations import Lexical
from headrace.cli.output import ExitCode, errors
from schemas.topics import OPTIONAL_STAGES, STAGES


def init(
    lexical: Annotated[
        Lexical, typer.Option("--lexical", help="What searches the words of the first generation, if it is made now.")
    ] = Lexical.TANTIVY,
) -> None:
    """Prepare Kafka and Postgres: topics, tables, the first index generation. Harmless when done already.

    Settings come from the environment; .env.example lists them.
    """
    # Here and not above: loading the database's tools takes as long as a whole other command.
    from asyncpg import PostgresError
    from confluent_kafka import KafkaException
    from pydantic import ValidationError
    from sqlalchemy.exc import DBAPIError

    from backbone.settings import GatewaySettings
    from headrace.local.prepare import prepare

    try:
        asyncio.run(prepare(GatewaySettings(), {}, lexical=lexical))
    except ValidationError as error:
        errors().print(f"[red]error:[/] the settings are wrong: {escape(str(error))}")
        raise typer.Exit(ExitCode.USAGE) from None
    except (OSError, KafkaException, PostgresError, DBAPIError) as error:
        errors().print(f"[red]error:[/] Kafka or Postgres is away or refused: {escape(str(error))}")
        raise typer.Exit(ExitCode.UNREACHABLE) from None


def gateway() -> None:
    """Run a gateway in this process. Settings come from the environment."""
    _become("gateway")


def worker(
    stages: Annotated[str, typer.Option("--stages", help=f"Comma-separated, of: {', '.join(STAGES)}; or all.")] = "all",
) -> None:
    """Run a worker with these stages in this process. Settings come from the environment."""
    wanted = (
        [stage for stage in STAGES if stage not in OPTIONAL_STAGES]
        if stages == "all"
        else [stage.strip() for stage in stages.split(",")]
    )
    unknown = [stage for stage in wanted if stage not in STAGES]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no stage; choose of {', '.join(STAGES)}")
    _become("streams", "--stages", ",".join(wanted))


def replay() -> None:
    """Run the worker that fills generations which do not answer. Settings come from the environment."""
    _become("streams.replay")


def _become(module: str, *arguments: str) -> None:
    # In place of this process, so that signals reach the service itself.
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
