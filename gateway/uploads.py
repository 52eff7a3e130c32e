"""Files as browsers, curl and the command line send them: multipart/form-data."""

import json
from typing import Annotated, Any

from fastapi import Depends, File, Form, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from gateway.models import DOCUMENTS_MAX, IngestRequest
from gateway.problems import invalid


async def uploaded(
    file: Annotated[list[UploadFile], File(max_length=DOCUMENTS_MAX, description="the files, one part each")],
    documents: Annotated[
        str,
        Form(
            description="JSON list with an object per file, in their order: `id` (left off: the file's name), `title`, "
            "`content_type`, `metadata`, `collection`, `acl`, as in `POST /v1/ingest`",
            examples=['[{"id": "manual/gates.pdf", "title": "Gates", "metadata": {"year": 2026}}]'],
        ),
    ] = "",
    collection: Annotated[str | None, Form(description="of files whose object in `documents` names none")] = None,
    metadata: Annotated[
        str,
        Form(description="JSON object, for all files; what `documents` says of one wins", examples=['{"year": 2026}']),
    ] = "",
    acl: Annotated[list[str] | None, Form(description="groups that may read them; the field may be repeated")] = None,
) -> IngestRequest:
    """Return the files of a form as the documents that they are to become.

    Raises:
        Problem: 422, a field is no JSON of its kind, or `documents` is not as long as there are files.
        RequestValidationError: a document is not valid, as in `POST /v1/ingest`.
    """
    named: list[Any] = _json("documents", documents, list) if documents else [{}] * len(file)
    if len(named) != len(file):
        raise invalid(
            "/documents", f"expected one object per file; there are {len(file)} files", f"{len(named)} objects"
        )
    common = {"collection": collection, "acl": acl, "metadata": _json("metadata", metadata, dict) if metadata else None}
    shared = {name: value for name, value in common.items() if value is not None}
    try:
        return IngestRequest.model_validate(
            {"documents": [await _document(part, shared, own) for part, own in zip(file, named, strict=True)]}
        )
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error


Uploaded = Annotated[IngestRequest, Depends(uploaded)]


def _json(field: str, value: str, kind: type[Any]) -> Any:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise invalid(f"/{field}", f"is not JSON: {error}", value) from error
    if not isinstance(parsed, kind):
        raise invalid(f"/{field}", f"expected a JSON {'list' if kind is list else 'object'}", value)
    return parsed


async def _document(part: UploadFile, shared: dict[str, Any], own: Any) -> Any:
    if not isinstance(own, dict):
        return own
    metadata = {**shared.get("metadata", {}), **own["metadata"]} if isinstance(own.get("metadata"), dict) else None
    named = {"id": part.filename, "filename": part.filename, "content_type": part.content_type}
    merged = {**named, **shared, **own, **({"metadata": metadata} if metadata is not None else {})}
    return {**merged, "content": await part.read()}
