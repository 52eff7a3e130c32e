"""Makes text of bytes whose character encoding may not be named anywhere."""

import codecs
import re
from typing import Final

from streams.errors import Unprocessable

_MARKS: Final = (  # the longer ones first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMED: Final = re.compile(
    rb"""<\?xml[^>]{0,100}encoding=["']([\w.-]{1,40})|<meta[^>]{0,200}charset=["']?([\w.-]{1,40})""", re.I
)
_NAMED_WITHIN: Final = 2048
_WESTERN: Final = "cp1252"
# What files are written in; of the many others, those of old Macs and mainframes only win by mistake.
_GUESSED: Final = (
    *("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be", "gb18030", "big5", "cp932", "euc_jp", "cp949"),
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "koi8_r", "koi8_u"),
)
_SAMPLE_BYTES: Final = 64 * 1024


def decoded(content: bytes) -> str:
    """Decode by byte order mark, else as UTF-8, else as the file itself names it (HTML, XML), else by a guess.

    Raises:
        Unprocessable: `not_text`: no encoding makes text of it.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    encodings = ["utf-8", *_named(content)] if b"\x00" not in content else []
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return content.decode(_guessed(content), "replace")


def _named(content: bytes) -> list[str]:
    found = _NAMED.search(content[:_NAMED_WITHIN])
    return [(found[1] or found[2]).decode("ascii")] if found is not None else []


def _guessed(content: bytes) -> str:
    from charset_normalizer import from_bytes

    matches = from_bytes(content[:_SAMPLE_BYTES], cp_isolation=list(_GUESSED))
    best = matches.best()
    if best is None:
        raise Unprocessable(
            "not_text", "the file is no text in any known character encoding; send UTF-8, or name its format"
        )
    # Of those with one byte a character the western one is by far the most used, and hard to tell from its neighbours.
    western = any(each.encoding == _WESTERN and each.chaos <= best.chaos for each in matches)
    unsure = best.encoding.startswith(("cp125", "koi8")) and not best.coherence
    return _WESTERN if western or unsure else str(best.encoding)
