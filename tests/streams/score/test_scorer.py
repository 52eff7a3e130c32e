from schemas.events import Answer, Scores
from streams.score.scorer import score
from tests.streams.score.passages import (
    EAST,
    NORTH,
    NORTH_EAST,
    KnownEncoder,
    by_chunk,
    cited,
    finished,
    hit,
    passage,
    written,
)

QUESTION = "What is the gate made of?"
STEEL = "The gate is made of steel."
NOON = "It opens at noon."
GATE = passage("c1", (STEEL, EAST), (NOON, NORTH))
BREAD = passage("c2", ("Bread is baked here.", NORTH))


async def test_an_extract_is_faithful_and_as_relevant_as_its_sentences_and_needs_no_encoder() -> None:
    answer = Answer(text=f"{STEEL} [1] {NOON} [2]", citations=[cited(1, "c1", STEEL), cited(2, "c1", NOON)])
    encoder = KnownEncoder()

    scores = await score(finished(answer, hit("c1", 0.75, 0.25)), by_chunk(GATE), encoder)

    assert scores == Scores(faithfulness=1.0, relevance=0.5, n_sentences=2, n_supported=2, scorer="sentences@1")
    assert encoder.asked == []


async def test_the_quotes_of_an_extract_need_not_end_as_sentences_do() -> None:
    plan = passage("c3", ("1. Open gate 5.", EAST), ("Start the pump", NORTH))
    quotes = [cited(1, "c3", "Open gate 5."), cited(2, "c3", "Start the pump"), cited(3, "c1", NOON)]
    answer = Answer(text=f"Open gate 5. [1] Start the pump [2] {NOON} [3]", citations=quotes)
    encoder = KnownEncoder()

    scores = await score(finished(answer, hit("c3", 0.5, 0.25), hit("c1", 0.3, 0.6)), by_chunk(plan, GATE), encoder)

    assert scores == Scores(faithfulness=1.0, relevance=0.45, n_sentences=3, n_supported=3, scorer="sentences@1")
    assert encoder.asked == []


async def test_case_space_and_punctuation_do_not_make_another_sentence() -> None:
    said = "the GATE,  is made\nof steel!"
    encoder = KnownEncoder({QUESTION: EAST, said: EAST})

    scores = await score(finished(written(f"{said} [1]", cited(1, "c1")), hit("c1")), by_chunk(GATE), encoder)

    assert scores.faithfulness == 1.0


async def test_part_of_a_word_is_not_said_word_for_word() -> None:
    encoder = KnownEncoder({QUESTION: EAST, "It opens at no": NORTH})

    scores = await score(finished(written("It opens at no"), hit("c1")), by_chunk(GATE), encoder)

    # cosine 1; of "open" and "no" the passage holds the first
    assert scores.faithfulness == 0.75


async def test_other_words_are_rated_by_their_cosine_and_by_the_words_that_the_passage_holds() -> None:
    said = "Steel was used for this gate."
    encoder = KnownEncoder({QUESTION: NORTH_EAST, said: NORTH_EAST})

    scores = await score(finished(written(f"{said} [1]", cited(1, "c1")), hit("c1")), by_chunk(GATE), encoder)

    # the cosine to the nearest sentence is 0.8; of "steel", "used", "gate" two are there
    assert scores == Scores(faithfulness=0.7333, relevance=1.0, n_sentences=1, n_supported=1, scorer="sentences@1")


async def test_a_sentence_counts_for_the_passage_that_it_cites_and_no_other() -> None:
    encoder = KnownEncoder({QUESTION: EAST, STEEL: EAST})

    right = await score(finished(written(f"{STEEL} [1]", cited(1, "c1")), hit("c1")), by_chunk(GATE, BREAD), encoder)
    wrong = await score(finished(written(f"{STEEL} [1]", cited(1, "c2")), hit("c1")), by_chunk(GATE, BREAD), encoder)

    assert (right.faithfulness, right.n_supported) == (1.0, 1)
    assert (wrong.faithfulness, wrong.n_supported) == (0.0, 0)


async def test_a_sentence_without_a_mark_or_with_an_unknown_one_is_sought_in_all_hits() -> None:
    encoder = KnownEncoder({QUESTION: EAST, f"{STEEL} {NOON}": EAST})
    answer = written(f"{STEEL} {NOON} [7]", cited(1, "c2"))

    scores = await score(finished(answer, hit("c2"), hit("c1")), by_chunk(GATE, BREAD), encoder)

    assert (scores.faithfulness, scores.n_sentences) == (1.0, 2)


async def test_the_words_of_titles_count_as_the_passages_own() -> None:
    said = "Lock four: steel."
    encoder = KnownEncoder({QUESTION: EAST, said: EAST})
    titled = passage("c1", (STEEL, EAST), title="Lock", headings=["Part four"])

    scores = await score(finished(written(said), hit("c1")), by_chunk(titled), encoder)

    assert scores.faithfulness == 1.0


async def test_sentences_whose_passages_are_gone_are_left_out() -> None:
    quotes = [cited(1, "c1", STEEL), cited(2, "c2", "Bread is baked here.")]
    answer = Answer(text=f"{STEEL} [1] Bread is baked here. [2]", citations=quotes)

    scores = await score(finished(answer, hit("c1", 0.9, 0.1), hit("c2", 0.3)), by_chunk(GATE), KnownEncoder())

    assert scores == Scores(faithfulness=1.0, relevance=0.9, n_sentences=1, n_supported=1, scorer="sentences@1")


async def test_nothing_is_told_where_all_passages_are_gone() -> None:
    answer = Answer(text=f"{STEEL} [1]", citations=[cited(1, "c1", STEEL)])

    assert await score(finished(answer, hit("c1", 0.9, 0.1)), {}, KnownEncoder()) == Scores(scorer="sentences@1")


async def test_a_written_answer_without_passages_still_has_its_relevance() -> None:
    encoder = KnownEncoder({QUESTION: EAST, STEEL: EAST})

    assert await score(finished(written(STEEL)), {}, encoder) == Scores(relevance=1.0, scorer="sentences@1")


async def test_scores_stay_within_0_and_1() -> None:
    encoder = KnownEncoder({QUESTION: EAST, "Bananas!": (-1.0, 0.0)})

    scores = await score(finished(written("Bananas!"), hit("c1")), by_chunk(GATE), encoder)

    assert (scores.faithfulness, scores.relevance) == (0.0, 0.0)


async def test_an_abstention_has_no_scores() -> None:
    answer = Answer(text="The documents do not say.", abstained=True)

    assert await score(finished(answer, hit("c1", 0.1, 0.1)), by_chunk(GATE), KnownEncoder()) == Scores(
        scorer="sentences@1"
    )


async def test_sentences_without_a_word_of_meaning_are_not_compared() -> None:
    encoder = KnownEncoder({QUESTION: EAST, f"It is. {STEEL}": EAST})

    scores = await score(finished(written(f"It is. {STEEL} [1]", cited(1, "c1")), hit("c1")), by_chunk(GATE), encoder)

    assert (scores.faithfulness, scores.n_sentences) == (1.0, 1)
