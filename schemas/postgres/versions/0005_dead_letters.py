"""Say which dead letters there are, and what shall be done with each."""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    # Made from the dead-letter topics by the operator stage; the record itself stays there.
    """
    CREATE TABLE dead_letters (
        stage            text COLLATE "C" NOT NULL,
        partition        integer NOT NULL,               -- of the dead-letter topic
        "offset"         bigint NOT NULL,
        reason           text NOT NULL,
        message          text NOT NULL,
        attempts         integer NOT NULL,
        failed_at        timestamptz NOT NULL,
        tenant           text COLLATE "C",               -- null: the record does not tell
        document         text COLLATE "C",               -- of a document's record
        version          bigint,
        query            uuid,                           -- of a question's record
        key              bytea,
        n_bytes          bigint NOT NULL,                -- of the value
        source_topic     text NOT NULL,                  -- where the record was first
        source_topic_id  text NOT NULL,
        source_partition integer NOT NULL,
        source_offset    bigint NOT NULL,
        state            text NOT NULL DEFAULT 'open'
                         CHECK (state IN ('open', 'redrive', 'redriven', 'discarded')),
        why              text,                           -- the last redrive was not possible
        changed_at       timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (stage, partition, "offset")
    )
    """,
    'CREATE INDEX dead_letters_by_time ON dead_letters (failed_at, stage, partition, "offset")',
    "CREATE INDEX dead_letters_of_document ON dead_letters (tenant, document) WHERE document IS NOT NULL",
    "CREATE INDEX dead_letters_to_redrive ON dead_letters (changed_at) WHERE state = 'redrive'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE dead_letters")
