"""The method `sentences@1`: rates an answer sentence by sentence, without a judge model.

It sees whether the passages speak of what the answer says, not whether they say the opposite.
"""

import asyncio
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from schemas.events import Answer, Chunk, Hit, QueryFinished, Scores
from schemas.ids import ChunkId
from streams.ports import Encoder, Passage, Vectors
from streams.score.compare import SUPPORTED_MIN, Comparison, Source
from streams.score.said import Said, said
from streams.text.words import words

SCORER: Final = "sentences@1"
EXTRACTIVE: Final = "extractive"


async def score(result: QueryFinished, passages: Mapping[ChunkId, Passage], encoder: Encoder) -> Scores:
    """Rate the answer of a question that is done.

    The encoder is asked only for what nothing else tells: sentences that no passage says word for word, and the
    relevance of an answer that a model wrote.

    Args:
        result: with its answer.
        passages: of its hits and citations, those that its reader may still read. A sentence that cites none but
            passages that are gone is left out.
        encoder: of the generation that made the passages' vectors.

    Returns:
        An abstention has no scores. `faithfulness` is the mean support of the `n_sentences` sentences that could be
        compared; None where there were none.

    Raises:
        Transient: the encoder is away.
    """
    answer = result.answer
    if answer is None or answer.abstained:
        return Scores(scorer=SCORER)
    extracted = answer.provider == EXTRACTIVE
    sentences = _quoted(answer) if extracted else said(answer.text)
    comparisons = _comparisons(sentences, answer, result.hits, passages)
    open_ones = [comparison for comparison in comparisons if not comparison.verbatim]
    supports = [1.0] * (len(comparisons) - len(open_ones))
    if extracted:
        cosines = _quoted_cosines(answer, result.hits, passages)
        relevance = fmean(cosines) if cosines else None
        vectors = await _encoded(encoder, [comparison.said.text for comparison in open_ones])
    else:
        texts = [" ".join(sentence.text for sentence in sentences), *(comparison.said.text for comparison in open_ones)]
        question, [whole, *vectors] = await asyncio.gather(encoder.encode_query(result.text), _encoded(encoder, texts))
        relevance = float(question[0] @ whole)
    supports += [comparison.support(vector) for comparison, vector in zip(open_ones, vectors, strict=True)]
    return Scores(
        faithfulness=_rounded(fmean(supports)) if supports else None,
        relevance=None if relevance is None else _rounded(relevance),
        n_sentences=len(supports),
        n_supported=sum(support >= SUPPORTED_MIN for support in supports),
        scorer=SCORER,
    )


async def relevance(question: str, answer: Answer, encoder: Encoder) -> float | None:
    """Rate an extract by one encoder, whichever its passages were found with: the mean cosine of question and quotes.

    Returns:
        From 0 to 1; None of an abstention.

    Raises:
        Transient: the encoder is away.
    """
    quotes = [citation.quote for citation in answer.citations]
    if answer.abstained or not quotes:
        return None
    asked, vectors = await asyncio.gather(encoder.encode_query(question), _encoded(encoder, quotes))
    return _rounded(fmean(float(asked[0] @ vector) for vector in vectors))


def _comparisons(
    sentences: Sequence[Said], answer: Answer, hits: Sequence[Hit], passages: Mapping[ChunkId, Passage]
) -> list[Comparison]:
    """Pair each sentence that holds a word of meaning with the passages that it cites; with all where it cites none."""
    sources = {chunk: Source(passage) for chunk, passage in passages.items()}
    cited = {citation.marker: citation.chunk for citation in answer.citations}
    paired = []
    for sentence in sentences:
        chunks = {cited[mark] for mark in sentence.marks if mark in cited} or {hit.chunk for hit in hits}
        found = [source for chunk, source in sources.items() if chunk in chunks]
        if found and words(sentence.text):
            paired.append(Comparison(sentence, found))
    return paired


def _quoted(answer: Answer) -> list[Said]:
    """Return what an extract consists of; quotes need not end as sentences do, so its text does not tell."""
    return [Said(citation.quote, frozenset({citation.marker})) for citation in answer.citations]


def _quoted_cosines(answer: Answer, hits: Sequence[Hit], passages: Mapping[ChunkId, Passage]) -> list[float]:
    """Return the cosine to the question of each quoted sentence, as the retrieval found it."""
    known = {hit.chunk: hit.sentence_scores for hit in hits}
    cosines = []
    for citation in answer.citations:
        passage = passages.get(ChunkId(citation.chunk))
        if passage is not None:
            scored = zip(passage.sentences, known.get(citation.chunk, ()), strict=False)
            quoted = (cosine for (start, end), cosine in scored if citation.quote in passage.text[start:end])
            cosines += list(quoted)[:1]
    return cosines


async def _encoded(encoder: Encoder, texts: Sequence[str]) -> list[Vectors]:
    """Return one vector of shape (dim,) a text; nothing is asked of the encoder where there are no texts."""
    if not texts:
        return []
    chunks = [Chunk(id="", ordinal=0, text=text, start=0, end=len(text), n_tokens=0) for text in texts]
    return list((await encoder.encode_chunks(chunks)).chunks)


def _rounded(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)
