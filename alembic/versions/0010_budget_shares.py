"""Sessions of several processes keep the budget of a run together.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budget_shares",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("unit IN ('USD', 'tokens')", name=op.f("ck_budget_shares_unit")),
        sa.CheckConstraint("lease_until IS NOT NULL OR held = 0", name=op.f("ck_budget_shares_held")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_budget_shares_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "owner", name=op.f("pk_budget_shares")),
    )


def downgrade() -> None:
    op.drop_table("budget_shares")
