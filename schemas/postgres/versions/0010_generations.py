"""Let index generations be made, followed, switched to and dropped while the stack runs."""

from alembic import op

revision = "0010"
down_revision = "0009"

STATEMENTS = (
    # `asked`: its topics and table are still to be made. `failed`: they cannot be, `why` says so. `following`: its
    # stages read on. `paused`: they do not. `dropping`, then `dropped`: nothing of it is left but this row, for a name
    # is never used twice.
    """
    ALTER TABLE generations
        ADD COLUMN state text NOT NULL DEFAULT 'following'
            CHECK (state IN ('asked', 'following', 'paused', 'dropping', 'dropped', 'failed')),
        ADD COLUMN why text,                             -- of failed; of dropping: what it waits for
        ALTER COLUMN dim DROP NOT NULL                   -- of asked: the embedder will tell
    """,
    # How the alias came to name what it names.
    """
    CREATE TABLE switches (
        id          uuid PRIMARY KEY,
        alias       text COLLATE "C" NOT NULL,
        generation  text COLLATE "C" NOT NULL REFERENCES generations, -- that shall answer
        previous    text COLLATE "C" NOT NULL REFERENCES generations, -- that answered when it was asked for
        kind        text NOT NULL CHECK (kind IN ('switch', 'rollback')),
        forced      boolean NOT NULL DEFAULT false,      -- without a passed gate, or before all documents are covered
        gate        uuid,                                -- the gate that was passed
        asked_by    text NOT NULL,                       -- tenant of the operator's key
        state       text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'moved', 'done', 'refused')),
        why         text,                                -- of refused; of asked: what it waits for
        asked_at    timestamptz NOT NULL DEFAULT now(),
        moved_at    timestamptz,
        finished_at timestamptz
    )
    """,
    # At most one is under way.
    "CREATE UNIQUE INDEX switches_open ON switches (alias) WHERE state IN ('asked', 'moved')",
    # A retrieval worker searches several generations, and says of each that it can.
    "ALTER TABLE lexical_views DROP CONSTRAINT lexical_views_pkey, ADD PRIMARY KEY (worker, generation)",
    "DELETE FROM view_answers",
    """
    ALTER TABLE view_answers
        ADD COLUMN generation text COLLATE "C" NOT NULL,
        DROP CONSTRAINT view_answers_pkey,
        ADD PRIMARY KEY (verification, worker, generation)
    """,
    # Of a document that was deleted before the generation began there may be nothing left in the log to do.
    "DROP VIEW coverage",
    """
    CREATE VIEW coverage AS
    SELECT g.generation,
           count(*) AS n_documents,
           count(*) FILTER (WHERE l.version = d.latest_version OR (d.deleted AND l.version IS NULL)) AS n_covered,
           count(*) FILTER (WHERE l.version IS DISTINCT FROM d.latest_version
                              AND d.status = 'failed' AND d.status_version = d.latest_version) AS n_failed
    FROM generations g
    CROSS JOIN documents d
    LEFT JOIN live l ON l.generation = g.generation AND l.tenant = d.tenant AND l.document = d.document
    WHERE d.latest_version > 0 AND g.state IN ('following', 'paused')
    GROUP BY g.generation
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DELETE FROM generations WHERE dim IS NULL")
    op.execute("DROP VIEW coverage")
    op.execute("DELETE FROM view_answers")
    op.execute("ALTER TABLE view_answers DROP COLUMN generation, ADD PRIMARY KEY (verification, worker)")
    op.execute("DELETE FROM lexical_views")
    op.execute("ALTER TABLE lexical_views DROP CONSTRAINT lexical_views_pkey, ADD PRIMARY KEY (worker)")
    op.execute("DROP TABLE switches")
    op.execute("ALTER TABLE generations ALTER COLUMN dim SET NOT NULL, DROP COLUMN state, DROP COLUMN why")
    op.execute(
        """
        CREATE VIEW coverage AS
        SELECT g.generation,
               count(*) AS n_documents,
               count(*) FILTER (WHERE l.version = d.latest_version) AS n_covered,
               count(*) FILTER (WHERE l.version IS DISTINCT FROM d.latest_version
                                  AND d.status = 'failed' AND d.status_version = d.latest_version) AS n_failed
        FROM generations g
        CROSS JOIN documents d
        LEFT JOIN live l ON l.generation = g.generation AND l.tenant = d.tenant AND l.document = d.document
        WHERE d.latest_version > 0
        GROUP BY g.generation
        """
    )
