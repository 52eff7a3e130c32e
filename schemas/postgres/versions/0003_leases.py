"""Let every question end: leases, cancel and republishing; idempotency keys, reply partitions, evals, pages."""

from alembic import op

from schemas.postgres.generation import chunks_table

revision = "0003"
down_revision = "0002"

COLUMNS = (
    "outcome text CHECK (outcome IN ('done', 'error', 'cancelled'))",  # of a finished question; the terminal event
    "terminal_seq integer",  # place of the terminal event in its attempt
    "claimed_by text",  # the worker process that writes the answer
    "lease_until timestamptz",  # claimed: lapsed means that the worker is dead or stuck
    "requeued_at timestamptz",  # pending again, after a lapsed lease: when its record was last sent
    "cancel_requested_at timestamptz",
    "reply_offset bigint NOT NULL DEFAULT 0",  # end of the reply partition at acceptance: no reply stands before it
    "hits jsonb",  # the passages found, as events.Hit
    "retrieve_ms real",
    "scores jsonb",  # as events.Scores
    "feedback jsonb",  # the last one, as events.FeedbackGiven
)

STATEMENTS = (
    *(f"ALTER TABLE queries ADD COLUMN {column}" for column in COLUMNS),
    # What ended before there was a sweeper is not published again.
    """
    UPDATE queries SET published_at = coalesce(finished_at, now()),
        outcome = CASE WHEN answer IS NOT NULL THEN 'done' ELSE 'error' END
    WHERE state = 'finished'
    """,
    # The sweeper's three questions, and the counts of admission; each index holds only the rows that are asked for.
    "CREATE INDEX queries_open ON queries (tenant, deadline) WHERE state IN ('pending', 'claimed')",
    "CREATE INDEX queries_unpublished ON queries (finished_at) WHERE state = 'finished' AND published_at IS NULL",
    # A POST with an Idempotency-Key: what its body was, and what was answered.
    """
    CREATE TABLE idempotency_keys (
        tenant      text COLLATE "C" NOT NULL,
        key         text COLLATE "C" NOT NULL,
        route       text NOT NULL,
        body_sha256 bytea NOT NULL,
        response    jsonb,                               -- null: not answered yet, or the route keeps its own row
        created_at  timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant, key)
    )
    """,
    "CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at)",  # old ones are dropped
    # Where the replies to a gateway's new questions go. Several gateways may share a partition.
    """
    CREATE TABLE gateways (
        gateway         text COLLATE "C" PRIMARY KEY,    -- a fresh id of each process
        reply_partition integer NOT NULL,
        lease_until     timestamptz NOT NULL
    )
    """,
    # One row a question, merged from results, scores and feedback, which come in any order.
    """
    CREATE TABLE evals (
        id         uuid PRIMARY KEY,
        tenant     text COLLATE "C" NOT NULL,
        revision   integer NOT NULL DEFAULT 1,           -- rises with every change; the highest one holds
        result     jsonb,                                -- fields of events.EvalLogged, by where they come from
        scores     jsonb,
        feedback   jsonb,
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX evals_by_tenant ON evals (tenant, id)",  # a tenant's questions, in order of time
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table in _chunk_tables():
        op.execute(f"ALTER TABLE {table} ADD COLUMN page integer")


def downgrade() -> None:
    for table in ("evals", "gateways", "idempotency_keys"):
        op.execute(f"DROP TABLE {table}")
    for index in ("queries_open", "queries_unpublished"):
        op.execute(f"DROP INDEX {index}")
    for column in COLUMNS:
        op.execute(f"ALTER TABLE queries DROP COLUMN {column.split()[0]}")
    for table in _chunk_tables():
        op.execute(f"ALTER TABLE {table} DROP COLUMN page")


def _chunk_tables() -> list[str]:
    rows = op.get_bind().exec_driver_sql("SELECT generation FROM generations").all()
    return [chunks_table(name) for (name,) in rows]
