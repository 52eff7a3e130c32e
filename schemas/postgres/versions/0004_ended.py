"""Find the questions that ended last: how many end per second decides how many are let in."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("CREATE INDEX queries_ended ON queries (finished_at) WHERE state = 'finished'")


def downgrade() -> None:
    op.execute("DROP INDEX queries_ended")
