"""ZIP archives from strangers, opened within bounds: what they say they unpack to, and what they do unpack to."""

from io import BytesIO
from typing import Final
from zipfile import BadZipFile, LargeZipFile, ZipFile
from zlib import error as ZlibError  # noqa: N812 - as an exception is named

from streams.errors import Unprocessable

UNPACKED_MAX_BYTES: Final = 256 * 1024 * 1024
"""Of all files in an archive together."""
MEMBERS_MAX: Final = 20_000


def opened(content: bytes) -> ZipFile:
    """Open an archive.

    Raises:
        Unprocessable: `malformed`; `too_large`, when unpacked or in number of files.
    """
    try:
        archive = ZipFile(BytesIO(content))
    except (BadZipFile, LargeZipFile, OSError, ValueError, NotImplementedError) as error:
        raise Unprocessable("malformed", f"the file is a damaged ZIP archive: {error}") from error
    members = archive.infolist()
    n_bytes = sum(each.file_size for each in members)
    if n_bytes > UNPACKED_MAX_BYTES or len(members) > MEMBERS_MAX:
        raise Unprocessable(
            "too_large",
            f"the file unpacks to {n_bytes} bytes in {len(members)} files; "
            f"expected at most {UNPACKED_MAX_BYTES} in {MEMBERS_MAX}: split the document",
        )
    return archive


def member(archive: ZipFile, name: str) -> bytes:
    """Return a file of an archive; never more than the archive said of it when it was opened.

    Raises:
        Unprocessable: `malformed`: there is none of this name, or it is damaged; `encrypted`.
    """
    try:
        with archive.open(name) as file:
            return file.read(archive.getinfo(name).file_size)
    except KeyError as error:
        raise Unprocessable("malformed", f"the file lacks {name[:200]!r}, which its format needs") from error
    except RuntimeError as error:  # zipfile's way to ask for a password
        raise Unprocessable("encrypted", "the file is protected by a password; save it without one") from error
    except (BadZipFile, ZlibError, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise Unprocessable("malformed", f"{name[:200]!r} in the file is damaged: {error}") from error
