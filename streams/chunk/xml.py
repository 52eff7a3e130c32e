"""XML from strangers, read as a stream of elements; entities are never expanded, nor is anything fetched."""

from xml.sax import SAXException
from xml.sax.handler import ContentHandler

from streams.errors import Unprocessable


def read_xml(source: str | bytes, handler: ContentHandler, *, what: str) -> None:
    """Hand the elements to a handler.

    Args:
        source: text (whatever encoding it declares), or bytes.
        handler: is called for each element and text.
        what: names the source in messages.

    Raises:
        Unprocessable: `malformed`: no XML, or it defines entities.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.sax import make_parser

    parser = make_parser()
    parser.forbid_external = False  # a document may name its DTD, which is not looked for
    parser.setContentHandler(handler)
    try:
        parser.feed(source)
        parser.close()
    except DefusedXmlException as error:
        raise Unprocessable("malformed", f"{what} defines XML entities, which are not expanded: {error}") from error
    except (SAXException, ValueError) as error:
        raise Unprocessable("malformed", f"{what} is not XML: {error}") from error
