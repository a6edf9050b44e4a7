"""When a task's webhook is to be called (again), and how often that was tried."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; tasks that have not ended yet get their calls."""
    op.add_column("tasks", sa.Column("webhook_due_ms", sa.BigInteger))
    op.add_column("tasks", sa.Column("webhook_calls", sa.Integer, nullable=False, server_default="0"))
    op.create_index("tasks_by_webhook", "tasks", ["webhook_due_ms"])
    op.execute("UPDATE tasks SET webhook_due_ms = 0 WHERE webhook IS NOT NULL AND ended_ms IS NULL")


def downgrade() -> None:
    """Drop them."""
    op.drop_index("tasks_by_webhook", "tasks")
    op.drop_column("tasks", "webhook_calls")
    op.drop_column("tasks", "webhook_due_ms")
