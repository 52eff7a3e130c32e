"""Two tenants with the same ids and nearly the same texts never meet."""

import base64

from headrace.answers import ENDS
from tests.e2e.api import Api, Sse

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


def is_end(event: Sse) -> bool:
    return event[0] in ENDS


def text_of(events: list[Sse]) -> str:
    return "".join(data["text"] for name, data, _ in events if name == "token")


def test_a_question_is_followed_cancelled_and_judged_by_its_own_tenant_alone(acme: Api, globex: Api) -> None:
    query = acme.query("What opens at dawn?")["id"]
    own = globex.query("What opens at dawn?")["id"]
    before = acme.client.get(f"/v1/queries/{query}").json()
    own_place = globex.follow(f"/v1/queries/{own}/events", is_end)[-1][2]

    for place in (None, own_place, "0:0"):
        headers = {} if place is None else {"Last-Event-ID": place}
        assert globex.client.get(f"/v1/queries/{query}/events", headers=headers).status_code == 404
    assert globex.client.delete(f"/v1/queries/{query}").status_code == 404
    assert globex.client.post(f"/v1/queries/{query}/feedback", json={"rating": "down"}).status_code == 404
    assert acme.client.get(f"/v1/queries/{query}").json() == before


def test_a_place_in_another_tenants_stream_leads_only_to_ones_own_answer(acme: Api, globex: Api) -> None:
    for api, owner in ((acme, "acme"), (globex, "globex")):
        api.put({"id": "places", "collection": "places", "text": text(owner, 1)})
        api.find(f"{owner}1x", "places", collection="places", rankers=["dense"])
    asked = {api: api.query("With which code does the vault open?", collection="places") for api in (acme, globex)}
    streams = {api: api.follow(f"/v1/queries/{asked[api]['id']}/events", is_end) for api in asked}

    for place in {place for _, _, place in streams[globex] if place}:
        told = acme.follow(f"/v1/queries/{asked[acme]['id']}/events", is_end, after=place)
        assert told[0][0] == "reset"
        assert text_of(told) == asked[acme]["answer"]
        assert "globex" not in str(told)


def test_the_same_idempotency_key_of_two_tenants_is_two_questions(acme: Api, globex: Api) -> None:
    def ask(api: Api) -> str:
        headers = {"Idempotency-Key": "twins"}
        response = api.client.post("/v1/query", json={"query": "What opens at dawn?"}, headers=headers)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    assert ask(acme) == ask(acme) != ask(globex) == ask(globex)


def test_what_becomes_of_documents_is_told_to_their_own_tenant_alone(acme: Api, globex: Api) -> None:
    def tell(api: Api, after: str | None) -> list[Sse]:
        left = {f"told/{owners[api]}/{n}" for n in range(3)}

        def all_indexed(event: Sse) -> bool:
            if event[0] == "indexed":
                left.discard(event[1]["id"])
            return not left

        return api.follow("/v1/lifecycle/events", all_indexed, after=after)

    owners = {acme: "acme", globex: "globex"}
    start = acme.follow("/v1/lifecycle/events", lambda event: event[0] == "begin")[0][2]
    for n in range(3):
        for api, owner in owners.items():
            api.put({"id": f"told/{owner}/{n}", "text": text(owner, n)})

    # a place of one tenant's stream is a place in the log, and shows the other no more
    told = {api: tell(api, start) for api in owners}

    for api, owner in owners.items():
        assert {data["id"].split("/")[1] for name, data, _ in told[api] if name != "begin"} == {owner}
    assert globex.client.get("/v1/documents/told%2Facme%2F1/events").status_code == 404


def test_a_document_for_one_group_is_hidden_from_readers_without_it(acme: Api, acme_board: Api) -> None:
    acme.put({"id": "minutes", "text": "The boardonly minutes mention the hidden tunnel.", "acl": ["board"]})
    for ranker in ("dense", "lexical", "hybrid"):
        acme_board.find("boardonly hidden tunnel", "minutes", rankers=[ranker])
        assert "minutes" not in {hit["document_id"] for hit in acme.search("boardonly tunnel", rankers=[ranker])}
    assert acme.document("minutes").status_code == 404
    assert acme.content("minutes").status_code == 404
    assert acme_board.content("minutes").status_code == 200
