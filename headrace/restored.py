"""Brings a stack whose Postgres was restored from a backup together with what its topics say.

The groups that write to Postgres begin again with what came since the backup, and the table of documents learns the
versions that were given since. Idempotent, so it may be run again where it broke off.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import asyncpg

from backbone.kafka import Admin
from backbone.objects import FolderBlobs
from backbone.postgres import open_pool
from backbone.settings import WorkerSettings
from schemas.topics import DEAD_LETTERS, EMBEDDINGS, FEEDBACK, INGEST, LIFECYCLE, RESULTS, SCORES, STAGES
from streams.adapters.kafka_documents import KafkaDocuments
from streams.adapters.postgres_documents import PostgresDocuments
from streams.intake.restored import Learnt, learn

BEGINNING_MS = 0


class NotEmpty(Exception):
    """All is to be read from the beginning, but the database holds documents already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """One group, and by how many offsets it went back."""

    group: str
    n_offsets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was done."""

    groups: list[Rewound]
    versions: Learnt


def writers(generations: Iterable[str], in_opensearch: Iterable[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """Return the groups that write to Postgres, and the topics that they read.

    Those of `in_opensearch` note in Postgres what stands in their index. Those that only publish need nothing again:
    the log has what they published. Questions are over by the time of a restore, so those who answer them are left out
    too.
    """
    letters = tuple(DEAD_LETTERS.named(stage).name for stage in STAGES if stage != "operator")
    return {
        "rag.intake": (INGEST.name,),
        **{f"rag.index.{generation}": (EMBEDDINGS.named(generation).name,) for generation in generations},
        **{f"rag.index.{generation}.opensearch": (EMBEDDINGS.named(generation).name,) for generation in in_opensearch},
        "rag.lifecycle": (LIFECYCLE.name,),
        "rag.score": (RESULTS.name,),
        "rag.evaluate": (RESULTS.name, SCORES.name, FEEDBACK.name),
        "rag.operator": letters,
    }


async def reset_groups(settings: WorkerSettings, since_ms: int) -> Report:
    """Reset the groups to a time, and let the table of documents learn what was published since.

    Args:
        settings: where the stores are.
        since_ms: milliseconds since the epoch; BEGINNING_MS for all that the topics hold.

    Raises:
        GroupInUse: a worker runs; nothing was changed.
        NotEmpty: BEGINNING_MS, and the database is not fresh; nothing was changed.
        Transient: Kafka or Postgres is away.
    """
    admin = Admin(settings)
    async with await open_pool(settings) as pool:
        groups = writers(await _generations(pool), await _generations(pool, "in_opensearch"))
        for group in groups:
            await admin.check_unused(group)
        if since_ms == BEGINNING_MS and await pool.fetchval("SELECT EXISTS (SELECT FROM documents)"):
            raise NotEmpty(
                "the database holds documents, of which some may be deleted long since; begin with a new one"
            )
        rewound = [
            Rewound(group=group, n_offsets=sum([await admin.rewind(group, topic, since_ms) for topic in topics]))
            for group, topics in groups.items()
        ]
        log = KafkaDocuments(settings=settings, blobs=FolderBlobs(settings.objects_dir))
        # last, because intake refuses to work until it is done
        learnt = await learn(log, PostgresDocuments(pool=pool), since_ms)
    return Report(groups=rewound, versions=learnt)


async def _generations(pool: "asyncpg.Pool[asyncpg.Record]", condition: str = "true") -> list[str]:
    return [
        row["generation"]
        for row in await pool.fetch(
            f"SELECT generation FROM generations WHERE state IN ('following', 'paused') AND {condition} ORDER BY 1"
        )
    ]
