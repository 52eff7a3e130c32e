"""`headrace groups`: what is done to consumer groups while no worker runs, with settings from the environment."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from headrace.cli.output import AsJson, ExitCode, console, errors, print_json

app = typer.Typer(help="Consumer groups, while no worker runs.", no_args_is_help=True)
BEGINNING = "beginning"


@app.callback()
def groups() -> None:
    """Consumer groups, while no worker runs."""


@app.command()
def reset(
    to: Annotated[str, typer.Option("--to", help="As 2026-11-26T18:00:00Z; or beginning, for a new, empty database.")],
    as_json: AsJson = False,
) -> None:
    """After Postgres was restored: read again what came since, and learn the versions given since.

    Say a time ten minutes before the backup was begun. Stop all workers first. See docs/runbooks/restore-postgres.md.
    Settings come from the environment; .env.example lists them.
    """
    # Here and not above: loading the clients takes as long as a whole other command.
    from asyncpg import PostgresError
    from confluent_kafka import KafkaException
    from pydantic import ValidationError

    from backbone.kafka import GroupInUse, MissingTopic
    from backbone.settings import WorkerSettings
    from headrace.restored import NotEmpty, reset_groups
    from schemas.codec import BlobMissing
    from streams.errors import Transient

    since_ms = _since_ms(to)
    try:
        report = asyncio.run(reset_groups(WorkerSettings(), since_ms))
    except ValidationError as error:
        errors().print(f"[red]error:[/] the settings are wrong: {escape(str(error))}")
        raise typer.Exit(ExitCode.USAGE) from None
    except (GroupInUse, NotEmpty) as error:
        cure = "stop all workers first" if isinstance(error, GroupInUse) else "see docs/runbooks/restore-postgres.md"
        errors().print(f"[red]error:[/] {escape(str(error))}; nothing was changed; {cure}")
        raise typer.Exit(ExitCode.SOME_FAILED) from None
    except BlobMissing as error:
        errors().print(
            f"[red]error:[/] the object store at HEADRACE_OBJECTS_DIR lacks what the log names: {escape(str(error))}"
        )
        raise typer.Exit(ExitCode.SOME_FAILED) from None
    except (OSError, KafkaException, MissingTopic, PostgresError, Transient) as error:
        errors().print(f"[red]error:[/] Kafka or Postgres is away or refused: {escape(str(error))}; run it again")
        raise typer.Exit(ExitCode.UNREACHABLE) from None
    if as_json:
        print_json(report)
        return
    for each in report.groups:
        console().print(f"{each.group}: {each.n_offsets} offsets back")
    found = report.versions
    console().print(
        f"versions: {found.n_read} read in the documents topic, {found.n_learnt} learnt. Start the workers."
    )


def _since_ms(text: str) -> int:
    """Read a time.

    Raises:
        BadParameter: it is none, or none that a reset can go back to.
    """
    from backbone.kafka import TOMBSTONES_KEPT
    from headrace.restored import BEGINNING_MS

    if text == BEGINNING:
        return BEGINNING_MS
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} is no time; expected one with its zone, as 2026-11-26T18:00:00Z, or beginning"
        )
    age = datetime.now(UTC) - time
    if age.total_seconds() < 0:
        raise typer.BadParameter(
            f"{text!r} lies in the future; expected a time ten minutes before the backup was begun"
        )
    if age > TOMBSTONES_KEPT:
        raise typer.BadParameter(
            f"{text!r} is {age.days} days ago; deletes are kept for {TOMBSTONES_KEPT.days} days only, so documents "
            "deleted since would come back. Begin with a new database: headrace init, then --to beginning"
        )
    return int(time.timestamp() * 1000)
