"""Keep blind votes on two answers to one prompt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    sides = [
        sa.Column(f"{side}_{name}", kind, nullable=False)
        for side in ("left", "right")
        for name, kind in (
            ("kind", sa.String()),
            ("name", sa.String()),
            ("sha256", sa.String()),
            ("answer", sa.Text()),
        )
    ]
    op.create_table(
        "votes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        *sides,
        sa.Column("choice", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_votes")),
    )
