"""Tasks, their subtasks, and the executors that work on them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("model", sa.String(100), nullable=False),
        sa.Column("dialect", sa.String(20), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("webhook", sa.Text),
        sa.Column("submitted_ms", sa.BigInteger, nullable=False),
        sa.Column("scheduled_ms", sa.BigInteger),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("enqueued", sa.Boolean, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("attempts_since_ms", sa.BigInteger, nullable=False),
        sa.Column("progress", sa.BigInteger, nullable=False),
    )
    op.create_index("tasks_by_owner", "tasks", ["owner", "submitted_ms"])
    op.create_index("tasks_by_owner_and_state", "tasks", ["owner", "state"])
    op.create_index("tasks_by_state", "tasks", ["state", "submitted_ms"])
    op.create_table(
        "subtasks",
        sa.Column("task_id", sa.String(36), sa.ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("speech_ms", sa.BigInteger, nullable=False),
        sa.Column("done_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "executors",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("beat_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("executors", "subtasks", "tasks"):
        op.drop_table(name)
