"""`headrace sync`: makes a collection hold what a folder holds, by what the stack itself knows of the folder.

Each document carries, in its metadata, the name of the sync that made it and the hash of its file. So there is no state
beside the stack: two machines that sync the same folder agree, and one that was wiped goes on where it was.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from headrace.cli.acl import Acl, groups_of
from headrace.cli.documents import await_deleted, delete_document, pages
from headrace.cli.files import Readable, Rejected, read_files
from headrace.cli.ingest import Into, Timeout, Wait
from headrace.cli.output import ApiKey, AsJson, ExitCode, Url, console, errors, gateway, print_json
from headrace.cli.report import progress, report
from headrace.cli.upload import Fate, Upload
from headrace.client import Client, Json


def sync(
    folder: Annotated[Path, typer.Argument(help="The folder.", exists=True, file_okay=False, show_default=False)],
    collection: Into = "default",
    name: Annotated[
        str | None, typer.Option("--name", help="Of this sync, kept with its documents. Default: the folder's name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent and deleted.")] = False,
    acl: Acl = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete even all documents, should all files be gone.")] = False,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Make a collection hold what a folder holds: send new and changed files, delete documents whose file is gone.

    Deleted are only documents that a sync of the same name made, in this collection; a file that is there but cannot be
    read keeps its document. What has failed before is sent again; what is unchanged is left alone.

    Metadata that others gave a document, and who may read it, stay when its file changes; --acl says who may read all
    of them from now on. What the key may not read is sent as if it were new: give the sync a key of all those groups.

    Exit code 1: some file failed; all others are in.
    """
    began = time.monotonic()
    with gateway(url, api_key, as_json=as_json) as client:
        folder_sync = _Sync(
            folder=folder, collection=collection, name=name or folder.resolve().name, acl=groups_of(acl)
        )
        held = {str(each["id"]): each for each in pages(client, collection=collection)}
        gone = folder_sync.gone(held)
        if gone and len(gone) == folder_sync.n_made(held) and not (yes or dry_run):
            errors().print(
                f"[red]error:[/] none of the {len(gone)} files of sync {escape(repr(folder_sync.name))} is in "
                f"{escape(str(folder))}, so that all their documents would be deleted; is it the right folder? "
                "If this is meant, add --yes"
            )
            raise typer.Exit(ExitCode.SOME_FAILED)
        if dry_run:
            _foretell(folder_sync.files(held), gone, as_json=as_json)
            return
        with progress(as_json=as_json) as tell:
            upload = Upload(client=client, collection=collection, wait_s=timeout if wait else None, tell=tell)
            fates = upload(folder_sync.files(held))
        fates += _deleted(client, gone, timeout if wait else None)
    raise typer.Exit(report(fates, time.monotonic() - began, waited=wait, as_json=as_json))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sync:
    """Compares a folder with what the stack holds, given as id -> description. `acl`: None leaves it as it is."""

    folder: Path
    collection: str
    name: str
    acl: Sequence[str] | None

    def files(self, held: Mapping[str, Json]) -> Iterator[Readable | Rejected | Fate]:
        """Yield what is to be sent, with the metadata by which it is known the next time; the rest has its fate."""
        for file in read_files([str(self.folder)], self.collection):
            yield self._compared(file, held.get(file.id or "")) if isinstance(file, Readable) else file

    def gone(self, held: Mapping[str, Json]) -> list[tuple[str, Path]]:
        """Return documents of this sync, with their paths, of which there is no file; in order of id."""
        made = ((document, self.folder / path) for document, path in self._made(held))
        return [(document, path) for document, path in made if not _is_there(path)]

    def n_made(self, held: Mapping[str, Json]) -> int:
        """Return how many documents are of this sync."""
        return sum(1 for _ in self._made(held))

    def _made(self, held: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
        for document, described in held.items():
            metadata = described.get("metadata") or {}
            if metadata.get("sync") == self.name and isinstance(metadata.get("path"), str):
                yield document, metadata["path"]

    def _compared(self, file: Readable, described: Json | None) -> Readable | Rejected | Fate:
        held = described or {}
        known = held.get("metadata") or {}
        other = known.get("sync", self.name)
        if other != self.name:
            message = f"its id {file.id!r} is that of a document of sync {other!r}; use another --collection"
            return Rejected(path=file.path, id=file.id, message=message)
        sha256 = hashlib.sha256(file.content).hexdigest()
        acl = held.get("acl") if self.acl is None else self.acl
        same = known.get("sha256") == sha256 and set(acl or ()) == set(held.get("acl") or ())
        if same and held["status"] != "failed":
            return Fate(path=str(file.path), id=file.id, status="unchanged")
        return replace(file, metadata={**known, **file.metadata, "sync": self.name, "sha256": sha256}, acl=acl)


def _is_there(path: Path) -> bool:
    """Tell whether there is something at a path; what may not be looked at counts as there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _deleted(client: Client, gone: Sequence[tuple[str, Path]], wait_s: float | None) -> list[Fate]:
    receipts = [(document, delete_document(client, document)) for document, _ in gone]
    sent = [(document, receipt) for document, receipt in receipts if receipt is not None]
    waiting = await_deleted(client, sent, wait_s) if sent and wait_s is not None else []
    return [
        Fate(path=str(path), id=document, status="deleted")
        if document not in waiting
        else Fate(path=str(path), id=document, status="failed", message="its document is not deleted in time")
        for document, path in gone
    ]


def _foretell(files: Iterator[Readable | Rejected | Fate], gone: Sequence[tuple[str, Path]], *, as_json: bool) -> None:
    sent = [str(file.id) for file in files if isinstance(file, Readable)]
    if as_json:
        print_json({"would_send": sent, "would_delete": [document for document, _ in gone]})
        return
    for document in sent:
        console().print(f"would send {escape(document)}")
    for document, path in gone:
        console().print(f"would delete {escape(document)}: {escape(str(path))} is gone")
    console().print(f"would send {len(sent)} · would delete {len(gone)}")
