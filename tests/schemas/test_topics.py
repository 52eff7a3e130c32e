import ast
from pathlib import Path

from headrace.generated import ROOT
from schemas.topics import FOREVER, STAGES, TOPICS, concrete


def test_a_stack_with_one_chunker_and_one_generation_needs_these_topics() -> None:
    assert [topic.name for topic in concrete(chunker="structure", generation="g1")] == [
        "rag.ingest.v1",
        "rag.documents.v1",
        "rag.chunks.structure.v1",
        "rag.embeddings.g1.v1",
        "rag.lifecycle.v1",
        "rag.queries.v1",
        "rag.retrievals.v1",
        "rag.answers.v1",
        "rag.results.v1",
        "rag.scores.v1",
        "rag.feedback.v1",
        "rag.evals.v1",
        "rag.control.v1",
        "rag.intake.dlq.v1",
        "rag.chunk.dlq.v1",
        "rag.embed.dlq.v1",
        "rag.index.dlq.v1",
        "rag.index_opensearch.dlq.v1",
        "rag.lifecycle.dlq.v1",
        "rag.retrieve.dlq.v1",
        "rag.generate.dlq.v1",
        "rag.score.dlq.v1",
        "rag.evaluate.dlq.v1",
        "rag.operator.dlq.v1",
    ]


def test_what_is_kept_for_ever_is_compacted_and_nothing_else() -> None:
    assert {topic.name for topic in TOPICS if topic.compacted} == {
        topic.name for topic in TOPICS if topic.retention == FOREVER
    }


def test_every_stage_is_a_folder_of_streams() -> None:
    assert [stage for stage in STAGES if not (ROOT / "streams" / stage).is_dir()] == []


def test_no_other_file_spells_a_topic() -> None:
    code = [path for part in ("backbone", "gateway", "streams", "headrace") for path in (ROOT / part).rglob("*.py")]

    assert [str(path.relative_to(ROOT)) for path in code if spells_a_topic(path)] == []


def spells_a_topic(path: Path) -> bool:
    constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    return any(isinstance(each, str) and each.startswith("rag.") and each.endswith(".v1") for each in constants)
