"""Setting up fresh stores, and setting them up again."""

import json
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from backbone.kafka import Admin, MissingTopic
from backbone.settings import GatewaySettings
from headrace.local.prepare import prepare
from schemas.postgres.generation import create_generation, drop_table, point_alias
from schemas.topics import EMBEDDINGS, INGEST, concrete

pytestmark = pytest.mark.integration


def settings(dsn: str, kafka: str, keys: Path) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {"postgres_dsn": dsn, "kafka_bootstrap": kafka, "api_keys_file": keys}, by_name=True
    )


async def test_fresh_stores_get_schema_generation_topics_and_a_key(
    kafka: str, postgres_server: Callable[[str], str], tmp_path: Path
) -> None:
    dsn, keys = postgres_server("prepare-fresh"), tmp_path / "home" / "keys.json"

    await prepare(settings(dsn, kafka, keys), {})

    connection = await asyncpg.connect(dsn)
    row = await connection.fetchrow("SELECT a.alias, g.* FROM aliases a JOIN generations g USING (generation)")
    await connection.close()
    assert row is not None
    assert [row[name] for name in ("alias", "generation", "chunker", "embedder", "dim")] == [
        "live",
        "g1",
        "structure",
        "all-MiniLM-L6-v2",
        384,
    ]
    names = [topic.name for topic in concrete(chunker="structure", generation="g1")]
    assert set(await Admin(settings(dsn, kafka, keys)).topic_ids(names)) == set(names)
    assert list(json.loads(keys.read_text()).values()) == [{"tenant": "demo", "groups": [], "operator": True}]
    assert keys.stat().st_mode & 0o777 == 0o600


async def test_setting_up_again_changes_nothing(
    kafka: str, postgres_server: Callable[[str], str], tmp_path: Path
) -> None:
    chosen = settings(postgres_server("prepare-again"), kafka, tmp_path / "keys.json")
    await prepare(chosen, {})
    key, ids = (tmp_path / "keys.json").read_text(), await Admin(chosen).topic_ids([INGEST.name])
    connection = await asyncpg.connect(postgres_server("prepare-again"))
    await create_generation(connection, "g2", "structure", "other", 8)
    await point_alias(connection, "live", "g2")
    await connection.execute("UPDATE generations SET state = 'dropped' WHERE generation = 'g1'")
    await drop_table(connection, "g1")
    await Admin(chosen).drop_topic(EMBEDDINGS.named("g1").name)

    await prepare(chosen, {})

    assert await connection.fetchval("SELECT generation FROM aliases WHERE alias = 'live'") == "g2"
    assert await connection.fetchval("SELECT to_regclass('chunks_g1')") is None
    with pytest.raises(MissingTopic):
        await Admin(chosen).topic_ids([EMBEDDINGS.named("g1").name])
    assert await Admin(chosen).topic_ids([EMBEDDINGS.named("g2").name])
    await connection.close()
    assert ((tmp_path / "keys.json").read_text(), await Admin(chosen).topic_ids([INGEST.name])) == (key, ids)
