"""Which fields of an eval come from which event; no text of documents or answers is among them."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.events import EvalLogged, FeedbackGiven, Hit, QueryFinished, QueryScored
from streams.ports import Eval


def of_result(result: QueryFinished) -> dict[str, Any]:
    """Return what the end of a question tells."""
    answer, hits = result.answer, result.hits
    fields: dict[str, Any] = {
        "question": result.text,
        "outcome": result.outcome,
        "attempt": result.attempt,
        "generation": result.generation,
        "asked_ms": result.asked_ms,
        "finished_ms": result.finished_ms,
        "user": result.user,
        "chunks": [hit.chunk for hit in hits],
        "documents": [hit.document for hit in hits],
        "versions": [hit.version for hit in hits],
        "chunk_scores": [hit.score for hit in hits],
        "ranker_scores": _by_ranker(hits),
        "error": result.error,
        "retrieve_ms": result.retrieve_ms,
    }
    if answer is not None:
        fields |= {
            "cited": list(dict.fromkeys(citation.chunk for citation in answer.citations)),
            "answer_sha256": hashlib.sha256(answer.text.encode()).hexdigest(),
            "answer_chars": len(answer.text),
            "abstained": answer.abstained,
            "provider": answer.provider,
            "model": answer.usage.model,
            "prompt": answer.prompt,
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
            "n_invented_marks": answer.n_invented_marks,
        }
    return fields


def of_scores(scored: QueryScored) -> dict[str, Any]:
    """Return what the scores tell."""
    scores = scored.scores
    return {"faithfulness": scores.faithfulness, "relevance": scores.relevance, "scorer": scores.scorer}


def of_feedback(given: FeedbackGiven) -> dict[str, Any]:
    """Return what the reader told."""
    return {
        "rating": given.rating,
        "comment": given.comment,
        "correction": given.correction,
        "feedback_ms": given.given_ms,
    }


def logged(query: str, tenant: str, row: Eval) -> EvalLogged:
    """Return a row that has its result as trainers read it."""
    fields = {**(row.result or {}), **(row.scores or {}), **(row.feedback or {})}
    return msgspec.convert({**fields, "query": query, "tenant": tenant, "revision": row.revision}, EvalLogged)


def _by_ranker(hits: Sequence[Hit]) -> dict[str, list[float | None]]:
    rankers = sorted({ranker for hit in hits for ranker in hit.scores})
    return {ranker: [hit.scores.get(ranker) for hit in hits] for ranker in rankers}
