"""Evidence for tests: passages of sentences with their cosines to the question."""

from typing import Any

from schemas.events import Evidence


def passage(*sentences: tuple[str, float], document: str = "guide", **fields: Any) -> Evidence:
    """Join (sentence, cosine) pairs by spaces into a passage that stands at 1000 in its document."""
    text, spans = "", []
    for sentence, _ in sentences:
        text += " " if text else ""
        spans.append((len(text), len(text) + len(sentence)))
        text += sentence
    cosines = [cosine for _, cosine in sentences]
    values: dict[str, Any] = {
        "document": document,
        "version": 1,
        "chunk": f"{document}-chunk",
        "text": text,
        "start": 1000,
        "end": 1000 + len(text),
        "score": max(cosines, default=0.0),
        "scores": {"dense": max(cosines, default=0.0)},
        "sentences": spans,
        "sentence_scores": cosines,
    }
    return Evidence(**(values | fields))
