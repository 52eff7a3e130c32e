"""Two tenants with the same ids and nearly the same texts never meet."""

import base64

from tests.e2e.api import Api

N = 12


def text(owner: str, n: int) -> str:
    return f"The shared manual {n} says that the {owner} vault opens with code {owner}{n}x at dawn."


def test_nothing_crosses_by_search_query_document_content_or_cursor(acme: Api, globex: Api) -> None:
    for api, owner in ((acme, "acme"), (globex, "globex")):
        api.put(*({"id": f"shared/{n}", "collection": "twins", "text": text(owner, n)} for n in range(N)))
        api.find(f"{owner}{N - 1}x", f"shared/{N - 1}", rankers=["lexical"])

    crossings = 0
    for api, other in ((acme, "globex"), (globex, "acme")):
        for n in range(N):
            for ranker in ("dense", "lexical", "hybrid"):
                hits = api.search(f"{other} vault code {other}{n}x", rankers=[ranker], collection="twins")
                assert hits
                crossings += sum(other in hit["text"] for hit in hits)
            assert other not in api.content(f"shared/{n}").text
            assert api.document(f"shared/{n}").json()["id"] == f"shared/{n}"
        for _, data in api.stream(f"With which code does the {other} vault open?", collection="twins"):
            crossings += str(data).count(f"the {other} vault opens")
    assert crossings == 0


def test_a_cursor_of_one_tenant_shows_the_other_nothing(acme: Api, globex: Api) -> None:
    acme.put(*({"id": f"only-acme/{n}", "collection": "cursors", "text": text("acme", n)} for n in range(5)))
    globex.put({"id": "only-globex", "collection": "cursors", "text": text("globex", 1)})
    page = acme.client.get("/v1/documents", params={"collection": "cursors", "limit": 2}).json()

    stolen = globex.client.get("/v1/documents", params={"collection": "cursors", "cursor": page["next_cursor"]})
    forged = base64.urlsafe_b64encode(b'["acme", "only-acme/1"]').decode()
    guessed = globex.client.get("/v1/documents", params={"collection": "cursors", "cursor": forged})

    assert len(page["documents"]) == 2
    for response in (stolen, guessed):
        assert response.status_code in {200, 400}
        assert "only-acme" not in response.text


def test_a_question_is_found_by_its_own_tenant_alone(acme: Api, globex: Api) -> None:
    answer = acme.query("What opens at dawn?")

    assert acme.client.get(f"/v1/queries/{answer['id']}").status_code == 200
    assert globex.client.get(f"/v1/queries/{answer['id']}").status_code == 404


def test_a_document_for_one_group_is_hidden_from_readers_without_it(acme: Api, acme_board: Api) -> None:
    acme.put({"id": "minutes", "text": "The boardonly minutes mention the hidden tunnel.", "acl": ["board"]})
    for ranker in ("dense", "lexical", "hybrid"):
        acme_board.find("boardonly hidden tunnel", "minutes", rankers=[ranker])
        assert "minutes" not in {hit["document_id"] for hit in acme.search("boardonly tunnel", rankers=[ranker])}
    assert acme.document("minutes").status_code == 404
    assert acme.content("minutes").status_code == 404
    assert acme_board.content("minutes").status_code == 200
