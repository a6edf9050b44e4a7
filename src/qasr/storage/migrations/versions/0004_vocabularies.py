"""Stored hotwords."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "vocabularies",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("prefix", sa.String(10), nullable=False),
        sa.Column("target_model", sa.String(100), nullable=False),
        sa.Column("hotwords", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("modified_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("vocabularies_by_owner", "vocabularies", ["owner", "kind", "created_ms"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("vocabularies")
