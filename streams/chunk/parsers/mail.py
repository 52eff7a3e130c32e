"""E-mail (EML) and Outlook messages (MSG): who wrote when to whom, the letter, and the names of what is attached."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from typing import Final

from streams.chunk.charset import decoded
from streams.chunk.document import Document, Heading, joined, normalised
from streams.chunk.parsers.html import parse_html
from streams.chunk.parsers.markdown import TITLE_MAX_CHARS
from streams.errors import Unprocessable

_FIELDS: Final = ("From", "To", "Cc", "Date")
_ENCRYPTED: Final = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")
_ENCRYPTED_SUFFIXES: Final = (".p7m", ".pgp-encrypted")


@dataclass(slots=True, kw_only=True)
class _Letter:
    """What the parts of a message hold: texts, in order, and names of what is attached."""

    texts: list[Document] = field(default_factory=list)
    attached: list[str] = field(default_factory=list)

    def document(self, subject: str, fields: Mapping[str, str]) -> Document:
        texts = [_plain("\n".join(_labelled(fields))), *self.texts]
        if self.attached:
            texts.append(_plain("\n".join(_labelled({"Attached": ", ".join(self.attached)}))))
        subject = " ".join(normalised(subject).split())[:TITLE_MAX_CHARS]
        if subject:
            heading = Heading(start=0, end=len(subject) + 3, level=1, text=subject)
            texts.insert(0, Document(text=f"# {subject}\n", syntax="markdown", headings=(heading,)))
        return replace(joined(texts), title=subject or None)


def parse_eml(content: bytes) -> Document:
    """Read a message as it is sent; of alternatives the plain text, else the HTML."""
    if b"\x00" in content:  # UTF-16, as some programs save it
        content = decoded(content).encode()
    message = message_from_bytes(content)
    letter = _Letter()
    _read(message, letter)
    return letter.document(_header(message, "Subject"), {name: _header(message, name) for name in _FIELDS})


def parse_msg(content: bytes) -> Document:
    """Read a message as Outlook saves it; its rich text, where it has no other, is not read."""
    from oxmsg import Message as OutlookMessage

    try:
        message = OutlookMessage.load(content)
        letter = _Letter(attached=[each.file_name or "a file without a name" for each in message.attachments])
        fields = {
            "From": message.sender or "",
            "To": ", ".join(f"{each.name} <{each.email_address}>" for each in message.recipients),
            "Date": str(message.sent_date or ""),
        }
        subject, body, html = message.subject or "", message.body or "", message.html_body or ""
    except (LookupError, ValueError, OSError, AttributeError) as error:
        raise Unprocessable("malformed", f"the file cannot be read as an Outlook message: {error!r}") from error
    if not (body or html) and any(name.lower().endswith(_ENCRYPTED_SUFFIXES) for name in letter.attached):
        raise _encrypted()
    letter.texts.append(_plain(body) if body.strip() else parse_html(normalised(html)))
    return letter.document(subject, fields)


def _read(part: Message, letter: _Letter) -> None:
    kind, inner = part.get_content_type(), part.get_payload()
    if kind in _ENCRYPTED:
        raise _encrypted()
    if isinstance(inner, list):
        parts = [each for each in inner if isinstance(each, Message)]
        for each in _best(parts) if kind == "multipart/alternative" else parts:
            if kind == "message/rfc822":
                letter.texts.append(_plain("\n".join(_labelled({n: _header(each, n) for n in ("Subject", *_FIELDS)}))))
            _read(each, letter)
    elif part.get_filename() or part.get_content_disposition() == "attachment" or not kind.startswith("text/"):
        letter.attached.append(_words(part.get_filename() or kind))
    else:
        text = _text(part)
        letter.texts.append(parse_html(normalised(text)) if kind == "text/html" else _plain(text))


def _best(alternatives: Sequence[Message]) -> Sequence[Message]:
    for kind in ("text/plain", "text/html"):
        found = [each for each in alternatives if each.get_content_type() == kind and _text(each).strip()]
        if found:
            return found[:1]
    return alternatives[-1:]


def _text(part: Message) -> str:
    payload = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    try:
        return raw.decode(part.get_content_charset("utf-8"))
    except (UnicodeDecodeError, LookupError):
        return decoded(raw)


def _header(message: Message, name: str) -> str:
    return _words(str(message.get(name, "")))


def _words(header: str) -> str:
    """Return a header with its encoded words decoded, where they can be."""
    try:
        return str(make_header(decode_header(header)))
    except (HeaderParseError, UnicodeError, LookupError, ValueError):
        return header


def _labelled(fields: Mapping[str, str]) -> Iterator[str]:
    for name, value in fields.items():
        if words := " ".join(normalised(value).split()):
            yield f"- {name}: {words}"


def _plain(text: str) -> Document:
    return Document(text=normalised(text).strip("\n"), syntax="markdown")


def _encrypted() -> Unprocessable:
    return Unprocessable("encrypted", "the message is encrypted; save it without encryption")
