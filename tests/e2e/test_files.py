"""Files: from upload to the page that an answer cites, and a folder that is kept in sync."""

import json
from pathlib import Path

from typer.testing import CliRunner

from headrace.cli import app
from tests.e2e.api import Api
from tests.stack import Stack
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


def test_a_folder_that_is_synced_again_costs_nothing(acme: Api, stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "weirs"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdf(["The Yarrow weir is of stone."]))
    (folder / "b.md").write_text("# Ettrick\n\nThe Ettrick weir is of timber.")

    def sync() -> dict[str, int]:
        environment = {"HEADRACE_URL": stack.url, "HEADRACE_API_KEY": "acme-key"}
        result = CliRunner().invoke(app, ["sync", str(folder), "-c", "rivers", "--json"], env=environment)
        assert result.exit_code == 0, result.output
        counts = json.loads(result.stdout)
        return {name: counts[name] for name in ("searchable", "unchanged", "deleted")}

    assert sync() == {"searchable": 2, "unchanged": 0, "deleted": 0}
    assert sync() == {"searchable": 0, "unchanged": 2, "deleted": 0}
    assert acme.document("rivers/b.md").json()["latest_version"] == 1
    (folder / "b.md").unlink()
    assert sync() == {"searchable": 0, "unchanged": 1, "deleted": 1}
    acme.find("Ettrick weir timber", "rivers/b.md", gone=True)
    acme.find("Yarrow weir stone", "rivers/a.pdf")
