"""A file, from its upload to the page that an answer cites."""

from tests.e2e.api import Api
from tests.streams.chunk.files import pdf

PAGES = (
    "The turbine hall of the Merwick works was built in 1987.",
    "The sluice gate of the Merwick weir opens at a water level of 4.2 metres.",
)


def test_a_citation_names_the_page_of_an_uploaded_pdf(acme: Api) -> None:
    files = [("file", ("merwick.pdf", pdf(PAGES), "application/pdf")), ("file", ("a.png", b"\x89PNG\r\n\x1a\n", None))]
    receipts = acme.client.post("/v1/documents", files=files).json()["documents"]

    indexed, refused = acme.settle(*receipts)
    answer = acme.query("At which water level does the sluice gate of the Merwick weir open?")

    assert (indexed["status"], indexed["content_type"]) == ("indexed", "application/pdf")
    assert (refused["status"], refused["failure"]["reason"]) == ("failed", "unsupported_content_type")
    [citation] = [each for each in answer["citations"] if "4.2 metres" in each["quote"]]
    assert (citation["document_id"], citation["page"]) == ("merwick.pdf", 2)
    text = acme.content("merwick.pdf").text
    assert text[citation["start"] : citation["end"]] == citation["quote"]
