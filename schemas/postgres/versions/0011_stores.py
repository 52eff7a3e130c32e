"""Let a generation be searched in OpenSearch: by words, by vector, or by both."""

from alembic import op

revision = "0011"
down_revision = "0014"

COVERAGE = """
CREATE VIEW coverage AS
SELECT g.generation,
       count(*) AS n_documents,
       count(*) FILTER (WHERE {covered}) AS n_covered,
       count(*) FILTER (WHERE NOT {covered} AND d.status = 'failed' AND d.status_version = d.latest_version) AS n_failed
FROM generations g
CROSS JOIN documents d
LEFT JOIN live l ON l.generation = g.generation AND l.tenant = d.tenant AND l.document = d.document
{more}
WHERE d.latest_version > 0 AND g.state IN ('following', 'paused')
GROUP BY g.generation
"""

STATEMENTS = (
    """
    ALTER TABLE generations
        ADD COLUMN lexical text NOT NULL DEFAULT 'tantivy' CHECK (lexical IN ('tantivy', 'opensearch')),
        ADD COLUMN vectors text NOT NULL DEFAULT 'pgvector' CHECK (vectors IN ('pgvector', 'opensearch')),
        ADD COLUMN in_opensearch boolean GENERATED ALWAYS AS (lexical = 'opensearch' OR vectors = 'opensearch') STORED
    """,
    # What stands in a store beside Postgres. Readers never ask for it: the fence is `live`.
    """
    CREATE TABLE sunk (
        generation text COLLATE "C" NOT NULL,
        tenant     text COLLATE "C" NOT NULL,
        document   text COLLATE "C" NOT NULL,
        version    bigint NOT NULL,
        PRIMARY KEY (generation, tenant, document)
    )
    """,
    # A document is covered once every store that is searched holds its latest version.
    "DROP VIEW coverage",
    COVERAGE.format(
        covered="""(
            coalesce(l.version = d.latest_version, d.deleted)
            AND (NOT g.in_opensearch OR coalesce(s.version = d.latest_version, d.deleted)))""",
        more="""LEFT JOIN sunk s
            ON g.in_opensearch AND s.generation = g.generation AND s.tenant = d.tenant AND s.document = d.document""",
    ),
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW coverage")
    op.execute(COVERAGE.format(covered="coalesce(l.version = d.latest_version, d.deleted)", more=""))
    op.execute("DROP TABLE sunk")
    op.execute("ALTER TABLE generations DROP COLUMN in_opensearch, DROP COLUMN lexical, DROP COLUMN vectors")
