"""What a killed process leaves in the index."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.events import Filters
from streams.adapters.tantivy_index import TantivyIndex

WRITER = """
import sys
from pathlib import Path
from streams.adapters.tantivy_index import Place, TantivyIndex
from tests.contract.lexical import chunked, key_of

index = TantivyIndex(Path(sys.argv[1]))
for number in range(1_000_000):
    key = key_of(f"d{number}")
    index.replace(key, 1, chunked(key, 1, {f"c{number}": "dam"}))
    if number % 3 == 2:
        index.commit(Place(topic_id="t", next_offsets={0: number + 1}, committed_ms=1))
        print(number + 1, flush=True)
"""


@pytest.mark.integration
def test_after_a_kill_the_place_and_the_documents_are_of_one_commit(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()

    index = TantivyIndex(tmp_path)
    place = index.place()
    assert place is not None
    assert place.next_offsets[0] >= told[-1]
    assert len(index.search("acme", "dam", Filters(), 100_000)) == place.next_offsets[0]
    index.close()
