"""Tell for which index generation a version was given up, and count it there."""

from alembic import op

revision = "0015"
down_revision = "0012"

COVERED = """(
    coalesce(l.version = d.latest_version, d.deleted)
    AND (NOT g.in_opensearch OR coalesce(s.version = d.latest_version, d.deleted)))"""

COVERAGE = """
CREATE VIEW coverage AS
SELECT g.generation,
       count(*) AS n_documents,
       count(*) FILTER (WHERE {covered}) AS n_covered,
       count(*) FILTER (WHERE NOT {covered} AND ({failed})) AS n_failed
FROM generations g
CROSS JOIN documents d
LEFT JOIN live l ON l.generation = g.generation AND l.tenant = d.tenant AND l.document = d.document
LEFT JOIN sunk s
    ON g.in_opensearch AND s.generation = g.generation AND s.tenant = d.tenant AND s.document = d.document
WHERE d.latest_version > 0 AND g.state IN ('following', 'paused')
GROUP BY g.generation
"""

FAILED = "d.status = 'failed' AND d.status_version = d.latest_version"

GIVEN_UP = """EXISTS (
    SELECT FROM given_up u
    WHERE (u.generation, u.tenant, u.document, u.version)
        = (g.generation, d.tenant, d.document, d.latest_version))"""

STATEMENTS = (
    # Of the stage that gave it up; a group serves one chunker or one generation. Empty: not told.
    "ALTER TABLE dead_letters ADD COLUMN consumer_group text NOT NULL DEFAULT ''",
    # What a generation lacks for good, unless somebody has it done again. The status of a document tells it of the
    # generation that answers alone.
    """
    CREATE VIEW given_up AS
    SELECT g.generation, k.tenant, k.document, k.version, k.stage, k.reason, k.message, k.failed_at
    FROM generations g
    JOIN dead_letters k ON k.consumer_group IN (
        'rag.chunk.' || g.chunker, 'rag.embed.' || g.generation, 'rag.index.' || g.generation,
        'rag.index.' || g.generation || '.opensearch')
    WHERE k.state IN ('open', 'discarded') AND k.document IS NOT NULL AND k.version IS NOT NULL
    """,
    "DROP VIEW coverage",
    COVERAGE.format(covered=COVERED, failed=f"({FAILED}) OR {GIVEN_UP}"),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW coverage")
    op.execute(COVERAGE.format(covered=COVERED, failed=FAILED))
    op.execute("DROP VIEW given_up")
    op.execute("ALTER TABLE dead_letters DROP COLUMN consumer_group")
