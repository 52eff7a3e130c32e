"""Let lexical views answer verifications, and count re-issues of each generation."""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    # Nothing was ever kept in these two.
    "DROP TABLE lexical_views",
    "DROP TABLE reissues",
    # Each retrieval worker builds its own view, and says here that it is alive.
    """
    CREATE TABLE lexical_views (
        worker     text PRIMARY KEY,                     -- host and folder
        generation text COLLATE "C" NOT NULL,
        seen_at    timestamptz NOT NULL
    )
    """,
    # What a view says to a verification once it has compared itself; its findings are kept with the others.
    """
    CREATE TABLE view_answers (
        verification uuid NOT NULL REFERENCES verifications ON DELETE CASCADE,
        worker       text NOT NULL,
        answered_at  timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (verification, worker)
    )
    """,
    # How often a version was re-issued by itself, so that one that cannot succeed is not tried for ever.
    """
    CREATE TABLE reissues (
        generation text COLLATE "C" NOT NULL,
        tenant     text COLLATE "C" NOT NULL,
        document   text COLLATE "C" NOT NULL,
        version    bigint NOT NULL,
        n          integer NOT NULL,
        last_at    timestamptz NOT NULL,
        PRIMARY KEY (generation, tenant, document)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("reissues", "view_answers", "lexical_views"):
        op.execute(f"DROP TABLE {table}")
    op.execute(
        """
        CREATE TABLE lexical_views (
            worker      text PRIMARY KEY,
            generation  text COLLATE "C" NOT NULL,
            n_documents bigint NOT NULL,
            n_chunks    bigint NOT NULL,
            seen_at     timestamptz NOT NULL,
            verified    uuid
        )
        """
    )
    op.execute(
        """
        CREATE TABLE reissues (
            tenant   text COLLATE "C" NOT NULL,
            document text COLLATE "C" NOT NULL,
            version  bigint NOT NULL,
            n        integer NOT NULL,
            last_at  timestamptz NOT NULL,
            PRIMARY KEY (tenant, document)
        )
        """
    )
