"""Note who holds a partition, so that a record that kills its worker is found."""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    """
    CREATE TABLE holders (
        consumer_group text COLLATE "C" NOT NULL,
        topic_id       text COLLATE "C" NOT NULL,
        partition      integer NOT NULL,
        holder         text,                             -- null: the last one left in good order
        alone          bigint,                           -- offset of the record that runs alone
        suspect        bigint,                           -- offset of a record that was alone when its holder died
        deaths         integer NOT NULL DEFAULT 0,       -- of the suspect's holders
        victim         text,                             -- the last of them
        position       bigint NOT NULL DEFAULT 0,        -- committed when a holder last died of an unknown record
        crashes        integer NOT NULL DEFAULT 0,       -- how often in a row it died so there
        due            boolean NOT NULL DEFAULT false,   -- the records from there on have not run alone since
        killer         bytea,                            -- which record was given up last for killing
        killer_at      timestamptz,
        changed_at     timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer_group, topic_id, partition)
    )
    """,
    # Leases of this question that lapsed because its worker died; one that gives it back does not count.
    "ALTER TABLE queries ADD COLUMN lapses integer NOT NULL DEFAULT 0",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE queries DROP COLUMN lapses")
    op.execute("DROP TABLE holders")
