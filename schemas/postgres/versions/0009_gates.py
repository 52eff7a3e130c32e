"""Judge a generation before it answers."""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = (
    """
    CREATE TABLE gates (
        id          uuid PRIMARY KEY,
        candidate   text COLLATE "C" NOT NULL REFERENCES generations,
        base        text COLLATE "C" NOT NULL REFERENCES generations,
        tenant      text COLLATE "C" NOT NULL,           -- of the key that asked for it
        margin      double precision NOT NULL,           -- by so much the candidate may be worse at most
        sets        jsonb NOT NULL,                      -- which questions, see streams/operator/gate/run.py
        state       text NOT NULL DEFAULT 'asked'
                    CHECK (state IN ('asked', 'running', 'finished', 'failed', 'cancelled')),
        why         text,                                -- of failed
        progress    jsonb NOT NULL DEFAULT '{}',
        verdict     text CHECK (verdict IN ('better', 'equal', 'worse', 'unsure')),
        reason      text,                                -- of the verdict
        report      jsonb,
        asked_at    timestamptz NOT NULL DEFAULT now(),
        began_at    timestamptz,
        finished_at timestamptz,
        lease_until timestamptz                          -- a worker that dies leaves it to another
    )
    """,
    # The last one of a pair is what a switch looks at.
    "CREATE INDEX gates_by_pair ON gates (candidate, base, asked_at DESC)",
    # What was measured of each question, so that a run goes on after its worker died.
    """
    CREATE TABLE gate_results (
        gate   uuid NOT NULL REFERENCES gates ON DELETE CASCADE,
        number integer NOT NULL,
        result jsonb NOT NULL,
        PRIMARY KEY (gate, number)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("gate_results", "gates"):
        op.execute(f"DROP TABLE {table}")
