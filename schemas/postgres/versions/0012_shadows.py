"""Ask a candidate generation a share of the live questions, unseen."""

from alembic import op

revision = "0012"
down_revision = "0011"

STATEMENTS = (
    """
    ALTER TABLE generations
        ADD COLUMN shadow_share   double precision NOT NULL DEFAULT 0 CHECK (shadow_share BETWEEN 0 AND 1),
        ADD COLUMN shadow_since   timestamptz,           -- of a share: what ended before is not asked
        ADD COLUMN shadow_swept   timestamptz,           -- up to here it is counted what came to nothing
        ADD COLUMN shadow_dropped bigint NOT NULL DEFAULT 0, -- questions that nobody took in time
        ADD COLUMN shadow_mark    text,                  -- of what the report was made
        ADD COLUMN shadow_report  jsonb                  -- see streams/operator/shadow.py
    """,
    # A question that a candidate is asked as well. The key counts each once, however often it is taken.
    """
    CREATE TABLE shadows (
        generation  text COLLATE "C" NOT NULL REFERENCES generations, -- the candidate
        query       uuid NOT NULL,
        base        text COLLATE "C" NOT NULL,           -- generation that answered the reader
        state       text NOT NULL DEFAULT 'taken' CHECK (state IN ('taken', 'done', 'failed')),
        n_taken     integer NOT NULL DEFAULT 1,
        lease_until timestamptz NOT NULL,                -- of taken: a worker that dies leaves it to another
        why         text,                                -- of failed
        result      jsonb,                               -- of done, as of a question of a gate
        finished_at timestamptz,
        PRIMARY KEY (generation, query)
    )
    """,
    # The newest ones are reported and kept.
    "CREATE INDEX shadows_by_end ON shadows (generation, finished_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE shadows")
    for column in ("share", "since", "swept", "dropped", "mark", "report"):
        op.execute(f"ALTER TABLE generations DROP COLUMN shadow_{column}")
