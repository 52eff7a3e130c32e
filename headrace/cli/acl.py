"""The option `--acl` of commands that say who may read a document."""

from typing import Annotated

import typer

Acl = Annotated[str | None, typer.Option("--acl", metavar="GROUP,...", help="Only readers of these groups may see it.")]


def groups_of(acl: str | None) -> list[str] | None:
    """Read the groups out of `--acl`; None where it is not given.

    Raises:
        typer.BadParameter: it names no group in a place.
    """
    if acl is None:
        return None
    groups = [group.strip() for group in acl.split(",")]
    if not all(groups):
        raise typer.BadParameter(f"--acl {acl!r} names no group in a place; write for instance --acl staff,ops")
    return groups
