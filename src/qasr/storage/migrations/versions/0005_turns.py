"""When a task has its turn."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column, and the indexes that find an owner's last one and what is served now."""
    op.add_column("tasks", sa.Column("turn", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("tasks_by_turn", "tasks", ["state", "turn"])
    op.drop_index("tasks_by_owner_and_state", "tasks")
    op.create_index("tasks_by_owner_and_turn", "tasks", ["owner", "state", "turn"])


def downgrade() -> None:
    """Remove them."""
    op.drop_index("tasks_by_owner_and_turn", "tasks")
    op.create_index("tasks_by_owner_and_state", "tasks", ["owner", "state"])
    op.drop_index("tasks_by_turn", "tasks")
    op.drop_column("tasks", "turn")
