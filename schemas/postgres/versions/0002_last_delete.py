"""Remember the version of the last delete, so that a document on its way back does not show what was deleted."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE documents ADD COLUMN deleted_version bigint NOT NULL DEFAULT 0")  # 0: never deleted
    op.execute("UPDATE documents SET deleted_version = latest_version WHERE deleted")


def downgrade() -> None:
    op.execute("ALTER TABLE documents DROP COLUMN deleted_version")
