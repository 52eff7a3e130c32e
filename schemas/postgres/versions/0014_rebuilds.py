"""Let a sink be rebuilt from the embeddings of its generation."""

from alembic import op

revision = "0014"
down_revision = "0010"

STATEMENTS = (
    """
    CREATE TABLE rebuilds (
        id          uuid PRIMARY KEY,
        generation  text COLLATE "C" NOT NULL REFERENCES generations,
        sink        text NOT NULL CHECK (sink IN ('pgvector', 'tantivy', 'opensearch')),
        asked_by    text NOT NULL,                       -- tenant of the operator's key
        state       text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'running', 'finished', 'failed')),
        why         text,                                -- of failed
        progress    jsonb NOT NULL DEFAULT '{}',
        next        jsonb NOT NULL DEFAULT '{}',         -- partition -> the offset to go on at
        asked_at    timestamptz NOT NULL DEFAULT now(),
        began_at    timestamptz,
        finished_at timestamptz,
        lease_until timestamptz                          -- a worker that dies leaves it to another
    )
    """,
    # At most one of each is under way.
    """
    CREATE UNIQUE INDEX rebuilds_open ON rebuilds (generation, sink) WHERE state IN ('asked', 'running')
    """,
    # Which rebuild a retrieval worker shall do to its own view, and which it did last.
    "ALTER TABLE lexical_views ADD COLUMN rebuild uuid, ADD COLUMN rebuilt uuid",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE lexical_views DROP COLUMN rebuild, DROP COLUMN rebuilt")
    op.execute("DROP TABLE rebuilds")
