"""`headrace ingest`: files, folders and globs into the stack, with a reason for each that does not arrive."""

import time
from dataclasses import replace
from typing import Annotated

import typer

from headrace.cli.acl import Acl, groups_of
from headrace.cli.files import Readable, read_files
from headrace.cli.output import ApiKey, AsJson, Url, gateway
from headrace.cli.report import progress, report
from headrace.cli.upload import Upload

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the documents can be searched.")]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0, help="Longest time to wait after the last document was sent, s.")
]
Into = Annotated[str, typer.Option("--collection", "-c", help="Attribute and first part of the id of every document.")]


def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, or globs in quotes.", show_default=False)],
    collection: Into = "default",
    acl: Acl = None,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Ingest files of any common format, and wait until they can be searched.

    A document's id is COLLECTION/path, the path relative to the argument: `headrace ingest docs -c handbook` gives
    handbook/guide/start.md. The same id again is a newer version of the same document, and
    replaces what was said of it, too: metadata, and who may read it.

    Exit code 1: some file failed; the others are in.
    """
    began, groups = time.monotonic(), groups_of(acl)
    with gateway(url, api_key, as_json=as_json) as client, progress(as_json=as_json) as tell:
        upload = Upload(client=client, collection=collection, wait_s=timeout if wait else None, tell=tell)
        fates = upload(
            replace(file, acl=groups) if isinstance(file, Readable) else file for file in read_files(paths, collection)
        )
    raise typer.Exit(report(fates, time.monotonic() - began, waited=wait, as_json=as_json))
