"""Say where log, tables and lexical views differ, and how far each generation has come."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    """
    CREATE TABLE verifications (
        id           uuid PRIMARY KEY,
        repair       boolean NOT NULL,
        state        text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'running', 'finished', 'failed')),
        why          text,                               -- of failed
        progress     jsonb NOT NULL DEFAULT '{}',
        asked_at     timestamptz NOT NULL DEFAULT now(),
        began_at     timestamptz,
        finished_at  timestamptz,
        lease_until  timestamptz                         -- a worker that dies leaves it to another
    )
    """,
    """
    CREATE TABLE findings (
        verification uuid NOT NULL REFERENCES verifications ON DELETE CASCADE,
        kind         text NOT NULL,
        generation   text COLLATE "C" NOT NULL,          -- empty: of all
        tenant       text COLLATE "C" NOT NULL,
        document     text COLLATE "C" NOT NULL,
        version      bigint,
        detail       text NOT NULL,
        seen_by      text NOT NULL,                      -- stage, or worker of a lexical view
        reissued_at  timestamptz,
        PRIMARY KEY (verification, tenant, document, generation, kind, seen_by)
    )
    """,
    # Each retrieval worker builds its own view, and says here that it is alive and what it was asked last.
    """
    CREATE TABLE lexical_views (
        worker      text PRIMARY KEY,
        generation  text COLLATE "C" NOT NULL,
        n_documents bigint NOT NULL,
        n_chunks    bigint NOT NULL,
        seen_at     timestamptz NOT NULL,
        verified    uuid                                 -- the last verification that it has answered
    )
    """,
    # How often a version was re-issued by itself, so that one that cannot succeed is not tried for ever.
    """
    CREATE TABLE reissues (
        tenant   text COLLATE "C" NOT NULL,
        document text COLLATE "C" NOT NULL,
        version  bigint NOT NULL,
        n        integer NOT NULL,
        last_at  timestamptz NOT NULL,
        PRIMARY KEY (tenant, document)
    )
    """,
    # A document is covered where the generation serves its latest version; one that failed for good is not missing.
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
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP VIEW coverage")
    for table in ("reissues", "lexical_views", "findings", "verifications"):
        op.execute(f"DROP TABLE {table}")
