"""What changes, and only that, is done again; old versions never answer."""

import json
import threading
import time

from confluent_kafka import Producer

from schemas.topics import INGEST
from tests.e2e.api import Api
from tests.stack import Stack


def section(n: int) -> str:
    """One section that is long enough to be a chunk of its own."""
    first = f"Paragraph one of section {n} tells about basin{n} and its keeper in {1900 + 10 * n}. " * 6
    second = f"More of section {n}: the water of basin{n} is measured {n + 2} times a day. " * 6
    return f"# Section {n}\n\n{first}\n\n{second}"


SECTIONS = [section(n) for n in range(6)]


def document(sections: list[str], **more: object) -> dict[str, object]:
    return {"id": "updates.md", "content_type": "text/markdown", "text": "\n\n".join(sections), **more}


def test_the_same_document_again_costs_no_vector(stack: Stack, acme: Api) -> None:
    first = acme.put(document(SECTIONS))[0]
    encoded = stack.encoded_chunks()

    second = acme.put(document(SECTIONS))[0]

    assert second["live_version"] == first["live_version"] + 1
    assert stack.encoded_chunks() == encoded


def test_one_edited_section_costs_its_own_vectors_only(stack: Stack, acme: Api) -> None:
    acme.put(document(SECTIONS))
    chunks, encoded = len(stack.rows("acme", "updates.md")), stack.encoded_chunks()
    edited = [*SECTIONS[:2], SECTIONS[2].replace("keeper", "warden"), *SECTIONS[3:]]

    acme.put(document(edited))

    assert chunks >= 6
    assert 1 <= stack.encoded_chunks() - encoded <= 2
    acme.find("warden of basin2", "updates.md")


def test_a_change_of_metadata_alone_applies_without_the_encoder(stack: Stack, acme: Api) -> None:
    acme.put(document(SECTIONS, metadata={"owner": "ann"}))
    acme.find("basin1", "updates.md", filters={"owner": "ann"})
    encoded = stack.encoded_chunks()

    acme.put(document(SECTIONS, metadata={"owner": "bob"}))

    for ranker in ("dense", "lexical"):
        acme.find("basin1", "updates.md", filters={"owner": "bob"}, rankers=[ranker])
        acme.find("basin1", "updates.md", gone=True, filters={"owner": "ann"}, rankers=[ranker])
    assert stack.encoded_chunks() == encoded


def test_a_shorter_document_leaves_no_tail(stack: Stack, acme: Api) -> None:
    acme.put(document(SECTIONS))
    acme.put(document(SECTIONS[:1]))

    assert not any("basin5" in text for text in stack.rows("acme", "updates.md"))
    for ranker in ("dense", "lexical"):
        assert not any("basin5" in hit["text"] for hit in acme.search("basin5", rankers=[ranker]))


def test_a_deleted_document_comes_back_when_it_is_added_again(acme: Api) -> None:
    acme.put(document(SECTIONS))
    acme.settle(acme.delete("updates.md"))
    acme.find("basin3", "updates.md", gone=True)

    acme.put(document(SECTIONS))

    acme.find("basin3", "updates.md", rankers=["lexical"])
    acme.find("basin3", "updates.md", rankers=["dense"])


def test_two_producers_fight_over_one_key_and_no_old_version_answers(stack: Stack, acme: Api) -> None:
    """Both partitions of the fight carry the same key, so only the versions of intake decide."""

    def fight(partition: int) -> None:
        producer = Producer({"bootstrap.servers": stack.kafka})
        for n in range(40):
            value = json.dumps({"text": f"The contested ibis wears ring ring{partition}n{n}x today."})
            producer.produce(INGEST.name, key="acme/contested", value=value.encode(), partition=partition)
            producer.flush(20)

    seen_versions: list[int] = []
    fighters = [threading.Thread(target=fight, args=(partition,)) for partition in (0, 3)]
    for fighter in fighters:
        fighter.start()
    # what is submitted last is the last version only when intake has looked at all that came before, in any partition
    n_versions, end = 0, time.monotonic() + 60
    while n_versions < 80 and time.monotonic() < end:
        response = acme.document("contested")
        if response.status_code == 200:
            n_versions = response.json()["latest_version"]
            seen_versions += [response.json()["live_version"]] if response.json()["live_version"] else []
    for fighter in fighters:
        fighter.join()
    last = acme.put({"id": "contested", "text": "The contested ibis wears ring finalring."})[0]

    assert last["latest_version"] == last["live_version"] == 81
    assert seen_versions == sorted(seen_versions)
    assert stack.rows("acme", "contested") == ["The contested ibis wears ring finalring."]
    acme.find("finalring", "contested", rankers=["lexical"])
    hits = [hit["text"] for hit in acme.search("contested ibis ring", rankers=["lexical"])]
    assert [text for text in hits if "contested" in text] == ["The contested ibis wears ring finalring."]
