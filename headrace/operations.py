"""What one does to look after a running stack, over HTTP: dead letters, and documents that are tried again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from headrace.client import Client, Json

PAGE_SIZE = 200


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operator's side of a gateway. Methods raise what those of `Client` raise.

    Attributes:
        client: its key is an operator's, or sees its own tenant alone.
    """

    client: Client

    def dead_letters(self, **filters: str | None) -> Iterator[Json]:
        """Yield dead letters, the newest first.

        Args:
            filters: stage, reason, state, tenant, document, since, until (times as 2026-11-26T18:00:00Z).
        """
        params = {name: value for name, value in filters.items() if value is not None} | {"limit": str(PAGE_SIZE)}
        while True:
            page = self._json("GET", "/v1/dead-letters", params=params)
            yield from page["dead_letters"]
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    def dead_letter(self, id: str) -> Json:
        """Return one with the headers of its record and the beginning of its value."""
        return self._json("GET", f"/v1/dead-letters/{quote(id, safe='')}")

    def dead_letter_value(self, id: str) -> bytes:
        """Return the value of its record, byte for byte; a tombstone's is empty."""
        return self.client.request("GET", f"/v1/dead-letters/{quote(id, safe='')}/value")

    def redrive(self, id: str) -> Json:
        """Have one sent again; return it as it is then."""
        return self._json("POST", f"/v1/dead-letters/{quote(id, safe='')}/redrive")

    def discard(self, id: str) -> Json:
        """Decide against one; return it as it is then."""
        return self._json("POST", f"/v1/dead-letters/{quote(id, safe='')}/discard")

    def redrive_all(self, chosen: Mapping[str, Any]) -> int:
        """Have all open ones of a choice sent again; return how many. See `POST /v1/dead-letters/redrive`."""
        return int(self._json("POST", "/v1/dead-letters/redrive", body=dict(chosen))["n"])

    def discard_all(self, chosen: Mapping[str, Any]) -> int:
        """Decide against all open ones of a choice; return how many."""
        return int(self._json("POST", "/v1/dead-letters/discard", body=dict(chosen))["n"])

    def retry(self, document: str) -> Json:
        """Try a failed document again; returns `how`: redrive or reissue."""
        return self._json("POST", f"/v1/documents/{quote(document, safe='')}/retry")

    def verify(self, *, repair: bool) -> Json:
        """Have log and tables compared, and what differs done again with `repair`; returns the verification."""
        return self._json("POST", "/v1/verifications", body={"repair": repair})

    def verification(self, id: str, *, after: int = 0) -> Json:
        """Return how far a verification is, and its findings behind the first `after`."""
        return self._json("GET", f"/v1/verifications/{quote(id, safe='')}", params={"after": str(after)})

    def coverage(self) -> list[Json]:
        """Return how far each generation has come."""
        return list(msgspec.json.decode(self.client.request("GET", "/v1/coverage")))

    def rebuild(self, generation: str, *, sink: str) -> Json:
        """Have a sink (pgvector, tantivy or opensearch) of a generation rebuilt; returns the rebuild."""
        return self._json("POST", f"/v1/generations/{quote(generation, safe='')}/rebuild", body={"sink": sink})

    def rebuild_progress(self, id: str) -> Json:
        """Return how far a rebuild is."""
        return self._json("GET", f"/v1/rebuilds/{quote(id, safe='')}")

    def generations(self) -> list[Json]:
        """Return all index generations, the oldest first."""
        return list(msgspec.json.decode(self.client.request("GET", "/v1/generations")))

    def create_generation(
        self, name: str, *, chunker: str, embedder: str, lexical: str = "tantivy", vectors: str = "pgvector"
    ) -> Json:
        """Have a generation made and filled from the log; return it as it is then.

        Args:
            name: never used before.
            chunker: cuts its documents.
            embedder: makes its vectors.
            lexical: what searches its words: tantivy or opensearch.
            vectors: what searches its vectors: pgvector or opensearch.
        """
        body = {"name": name, "chunker": chunker, "embedder": embedder, "lexical": lexical, "vectors": vectors}
        return self._json("POST", "/v1/generations", body=body)

    def generation(self, name: str) -> Json:
        """Return a generation, and how far it is."""
        return self._json("GET", _generation(name))

    def change_generation(self, name: str, verb: str) -> Json:
        """Pause or resume a generation, by these words; return it as it is then."""
        return self._json("POST", f"{_generation(name)}/{verb}")

    def shadow_generation(self, name: str, share: float) -> Json:
        """Have a candidate asked a share of the live questions, unseen; return it as it is then."""
        return self._json("POST", f"{_generation(name)}/shadow", body={"share": share})

    def drop_generation(self, name: str) -> Json:
        """Have a generation dropped with all that it owned; return it as it is then."""
        return self._json("DELETE", _generation(name))

    def switch(self, name: str, *, force: bool) -> Json:
        """Let a generation answer; returns the switch."""
        return self._json("POST", f"{_generation(name)}/switch", body={"force": force})

    def rollback(self, *, force: bool) -> Json:
        """Let the generation answer again that answered before; returns the switch."""
        return self._json("POST", "/v1/rollback", body={"force": force})

    def switches(self) -> list[Json]:
        """Return the last switches, the newest first."""
        return list(msgspec.json.decode(self.client.request("GET", "/v1/switches")))

    def cancel_switch(self) -> list[Json]:
        """Cancel the switch that waits; return the last ones, the newest first."""
        return list(msgspec.json.decode(self.client.request("DELETE", "/v1/switches")))

    def ask_gate(self, generation: str, body: Json) -> Json:
        """Have a candidate generation judged by questions; returns the gate."""
        return self._json("POST", _gate(generation), body=body)

    def gate(self, generation: str) -> Json:
        """Return the last gate of a candidate generation."""
        return self._json("GET", _gate(generation))

    def gate_report(self, generation: str) -> bytes:
        """Return the report of the last gate as a page of HTML."""
        return self.client.request("GET", f"{_gate(generation)}/report")

    def cancel_gate(self, generation: str) -> Json:
        """Cancel the gate that is under way."""
        return self._json("DELETE", _gate(generation))

    def _json(self, method: str, path: str, **more: Any) -> Json:
        return dict(msgspec.json.decode(self.client.request(method, path, **more)))


def _generation(name: str) -> str:
    return f"/v1/generations/{quote(name, safe='')}"


def _gate(generation: str) -> str:
    return f"{_generation(generation)}/gate"
