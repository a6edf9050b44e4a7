"""Live sessions that are counted for several servers."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "live_sessions",
        sa.Column("session", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("live_sessions_by_name", "live_sessions", ["name", "until_ms"])
    op.create_index("live_sessions_by_age", "live_sessions", ["until_ms"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("live_sessions")
