"""Attempts keep what their requests may have taken of which no server told anything.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("unsettled_tokens", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("attempts", sa.Column("unsettled_cost_usd", sa.Double(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    for column in ("unsettled_cost_usd", "unsettled_tokens"):
        op.execute(f"ALTER TABLE attempts DROP COLUMN {column}")
